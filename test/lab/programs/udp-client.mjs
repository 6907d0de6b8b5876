/**
 * Sends numbered datagrams to an echo server, one every `gap` milliseconds, and prints one line of JSON when the last answer or
 * the time is there: {sent, received, duplicates, corrupted, reordered, longestGapMs, rttMs: [...]}; the gap is between answers.
 *
 *   datagram: sequence u32 big-endian, then bytes that follow from the sequence number
 *
 * udp-client.mjs HOST PORT [--count 100] [--size 100] [--gap 1] [--linger 5000] [--socks ADDRESS:PORT]
 *   (size in bytes, ≥ 4; linger in milliseconds; socks: through a UDP association of this SOCKS 5 proxy, HOST may be a name)
 */
import { createSocket } from 'node:dgram';
import { parseArguments } from './content.mjs';
import { associate } from './socks-client.mjs';

const { named, plain } = parseArguments(process.argv.slice(2));
const [host = '127.0.0.1', port = '7'] = plain;
const count = Number(named['count'] ?? 100);
const size = Math.max(4, Number(named['size'] ?? 100));
const gap = Number(named['gap'] ?? 1);
const linger = Number(named['linger'] ?? 5000);

const sentAt = new Float64Array(count);
const seen = new Uint8Array(count);
const rttMs = /** @type {number[]} */ ([]);
const result = { sent: 0, received: 0, duplicates: 0, corrupted: 0, reordered: 0, longestGapMs: 0, rttMs };
let highest = -1;
/** @type {number | undefined} */
let lastAnswer;

const relay = named['socks'] === undefined ? undefined : await associate(named['socks'], host, Number(port));
const socket = createSocket((relay?.address ?? host).includes(':') ? 'udp6' : 'udp4');
socket.on('message', (whole) => {
  const data = relay === undefined ? whole : whole.subarray(relay.skip(whole));
  const sequence = data.length >= 4 ? data.readUInt32BE(0) : count;
  if (sequence >= count || !data.equals(datagram(sequence))) {
    result.corrupted++;
    return;
  }
  if (seen[sequence] === 1) {
    result.duplicates++;
    return;
  }
  seen[sequence] = 1;
  result.received++;
  if (sequence < highest) result.reordered++;
  highest = Math.max(highest, sequence);
  const now = performance.now();
  result.longestGapMs = Math.max(result.longestGapMs, now - (lastAnswer ?? now));
  lastAnswer = now;
  result.rttMs.push(now - Number(sentAt[sequence]));
  if (result.received === count) finish();
});
socket.on('error', (error) => {
  console.error(error.message);
  process.exit(1);
});
socket.connect(relay?.port ?? Number(port), relay?.address ?? host, () => sendNext());

function sendNext() {
  sentAt[result.sent] = performance.now();
  socket.send(relay === undefined ? datagram(result.sent) : [relay.header, datagram(result.sent)]);
  result.sent++;
  setTimeout(result.sent < count ? sendNext : finish, result.sent < count ? gap : linger);
}

function finish() {
  console.log(JSON.stringify(result));
  process.exit(0);
}

/** @param {number} sequence */
function datagram(sequence) {
  const data = Buffer.alloc(size, sequence & 0xff);
  data.writeUInt32BE(sequence, 0);
  return data;
}
