/**
 * Sends UDP datagrams that are not what the receiver wants: random bytes, and real ones with bits, lengths and order changed. Prints one
 * line of JSON {sent, failed}; "sent" were given to the kernel.
 *
 * udp-garbage.mjs HOST PORT [--count 100000] [--seed 1] [--corpus FILE] [--from 0] (FILE: JSON array of base64; from: local port)
 */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { parseArguments } from './content.mjs';

/** Datagrams before the receiver gets a turn: more would only overflow its socket. */
const BURST = 64;
const LONGEST = 1472;

const { named, plain } = parseArguments(process.argv.slice(2));
const [host = '127.0.0.1', port = '9'] = plain;
const count = Number(named['count'] ?? 100_000);
let state = Number(named['seed'] ?? 1) >>> 0 || 1;
/** @type {Buffer[]} */
const corpus = (named['corpus'] === undefined ? [] : JSON.parse(readFileSync(named['corpus'], 'utf8'))).map(
  (/** @type {string} */ text) => Buffer.from(text, 'base64'),
);

const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
const result = { sent: 0, failed: 0 };
// Errors such as "connection refused" by ICMP are the other end's answer to garbage.
socket.on('error', () => undefined);
socket.bind(Number(named['from'] ?? 0), () => socket.connect(Number(port), host, burst));

function burst() {
  const size = Math.min(BURST, count - result.sent - result.failed);
  let waiting = size;
  for (let i = 0; i < size; i++) {
    socket.send(datagram(), (error) => {
      if (error) result.failed++;
      else result.sent++;
      if (--waiting > 0) return;
      if (result.sent + result.failed < count) setImmediate(burst);
      else {
        console.log(JSON.stringify(result));
        process.exit(0);
      }
    });
  }
}

/** A number from 0 to `below` − 1, by xorshift32. @param {number} below */
function random(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

function datagram() {
  const source = corpus.length > 0 && random(4) > 0 ? corpus[random(corpus.length)] : undefined;
  if (source === undefined) return randomBytes(random(LONGEST));
  const data = Buffer.from(source);
  switch (random(6)) {
    case 0:
      return data.subarray(0, random(data.length));
    case 1:
      return Buffer.concat([data, randomBytes(random(100))]).subarray(0, LONGEST);
    case 2:
      return Buffer.concat([data.subarray(0, random(data.length)), randomBytes(random(LONGEST))]).subarray(0, LONGEST);
    case 3:
      // As it was: a replay.
      return data;
    default:
      for (let flips = 1 + random(8); flips > 0; flips--) {
        const at = random(data.length);
        data.writeUInt8(data.readUInt8(at) ^ (1 << random(8)), at);
      }
      return data;
  }
}

/** @param {number} length */
function randomBytes(length) {
  const data = Buffer.alloc(length);
  for (let at = 0; at < length; at++) data[at] = random(256);
  return data;
}
