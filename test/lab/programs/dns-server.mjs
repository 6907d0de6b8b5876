/**
 * A DNS responder with a fixed zone, over UDP and TCP: answers A and AAAA questions of the names it was given, NXDOMAIN for the
 * rest, and an empty answer for other types of known names.
 *
 *   header(12): id · flags · QDCOUNT · ANCOUNT · NSCOUNT · ARCOUNT;  question: labels · type · class;  over TCP: length u16 first
 *
 * RFC 1035 §4.1, §4.2.
 * dns-server.mjs NAME=ADDRESS … [--port 53] [--address ::] [--ttl 60]; prints "listening udp ADDRESS PORT" when both are open.
 */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { parseArguments } from './content.mjs';

const TYPE_A = 1;
const TYPE_AAAA = 28;
const FLAGS_ANSWER = 0x8400;
const RCODE_NXDOMAIN = 3;

const { named, plain } = parseArguments(process.argv.slice(2));
const port = Number(named['port'] ?? 53);
const address = named['address'] ?? '::';
const ttl = Number(named['ttl'] ?? 60);
/** @type {Map<string, string[]>} */
const zone = new Map();
for (const entry of plain) {
  const [name = '', value = ''] = entry.split('=');
  zone.set(name.toLowerCase(), [...(zone.get(name.toLowerCase()) ?? []), value]);
}

const udp = createSocket(address.includes(':') ? 'udp6' : 'udp4');
udp.on('message', (query, from) => {
  const reply = answer(query);
  if (reply !== undefined) udp.send(reply, from.port, from.address);
});
const tcp = createServer((socket) => {
  let waiting = Buffer.alloc(0);
  socket.on('error', () => undefined);
  socket.on('data', (piece) => {
    waiting = Buffer.concat([waiting, piece]);
    while (waiting.length >= 2 && waiting.length >= 2 + waiting.readUInt16BE(0)) {
      const end = 2 + waiting.readUInt16BE(0);
      const reply = answer(waiting.subarray(2, end));
      waiting = waiting.subarray(end);
      if (reply === undefined) continue;
      const length = Buffer.alloc(2);
      length.writeUInt16BE(reply.length);
      socket.write(Buffer.concat([length, reply]));
    }
  });
});
tcp.listen(port, address, () => udp.bind(port, address, () => console.log(`listening udp ${address} ${port}`)));

/**
 * The reply to one query, or undefined when it is not a query with one question.
 * @param {Buffer} query
 */
function answer(query) {
  if (query.length < 17 || (query.readUInt16BE(2) & 0x8000) !== 0 || query.readUInt16BE(4) !== 1) return undefined;
  const labels = [];
  let at = 12;
  for (let length = query[at] ?? 0; length !== 0; length = query[at] ?? 0) {
    if (length > 63 || at + 1 + length >= query.length) return undefined;
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  if (at + 5 > query.length) return undefined;
  const type = query.readUInt16BE(at + 1);
  const question = query.subarray(12, at + 5);
  const addresses = zone.get(labels.join('.').toLowerCase());
  const records = (addresses ?? [])
    .filter((text) => (type === TYPE_A && !text.includes(':')) || (type === TYPE_AAAA && text.includes(':')))
    .map((text) => record(type, addressBytes(text)));
  const header = Buffer.alloc(12);
  query.copy(header, 0, 0, 2);
  header.writeUInt16BE(FLAGS_ANSWER | (query.readUInt16BE(2) & 0x0100) | (addresses ? 0 : RCODE_NXDOMAIN), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(records.length, 6);
  return Buffer.concat([header, question, ...records]);
}

/**
 * A resource record whose name is a pointer to the question.
 * @param {number} type
 * @param {Buffer} data
 */
function record(type, data) {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0);
  head.writeUInt16BE(type, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(ttl, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

/** @param {string} text */
function addressBytes(text) {
  if (!text.includes(':')) return Buffer.from(text.split('.').map(Number));
  const [head = '', tail] = text.split('::');
  /** @param {string} part */
  const words = (part) => part.split(':').filter((word) => word !== '');
  const missing = tail === undefined ? 0 : 8 - words(head).length - words(tail).length;
  const all = [...words(head), ...Array(missing).fill('0'), ...words(tail ?? '')];
  return Buffer.from(all.flatMap((word) => [Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16) & 0xff]));
}
