/**
 * Datagrams in bursts and streams, counted where they arrive. Every datagram says which run and number it is, and its payload is
 * known to the receiver, so that nothing is counted twice or altered.
 *
 *   datagram: 'D' · run u32 · number u32 · kind u8 · payload that follows from kind, run and number
 *   asked of the server: 'B' · run u32 · count u32 · kind u8 · size u16 (burst them here)      'C' · run u32 (how many came?)
 *
 * udp-burst.mjs server PORT                             prints "listening PORT"; for a run that paused, one line
 *                                                       {run, resumed, pause}: when (ms since 1970) and after how many ms
 * udp-burst.mjs up|down HOST PORT [--count 1000] [--kind zeros|ones|sequential|random] [--size 200]
 *                                                       prints {sent, received, wrong}
 * udp-burst.mjs stream HOST PORT --rate DATAGRAMS_PER_SECOND [--size 1200]      until it is ended; prints "streaming"
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArguments } from './content.mjs';

const KINDS = ['zeros', 'ones', 'sequential', 'random'];
const HEADER = 10;
/** Asked for; the system's limit applies. */
const BUFFER_BYTES = 4 << 20;
/** A run in which nothing came for this long (ms) has paused. */
const PAUSE = 400;

const { named, plain } = parseArguments(process.argv.slice(2));
const mode = plain[0];
if (mode === 'server') serve(Number(plain[1]));
else {
  const [, host = '127.0.0.1', port = '9'] = plain;
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  socket.on('error', (error) => console.error(error.message));
  socket.connect(Number(port), host);
  await once(socket, 'connect');
  widen(socket);
  const run = (Date.now() ^ (process.pid << 8)) >>> 0;
  if (mode === 'stream') await stream(socket, run);
  else console.log(JSON.stringify(await burst(socket, run)));
  process.exit(0);
}

/** @param {number} port */
function serve(port) {
  const socket = createSocket({ type: 'udp6', ipv6Only: false });
  /** @type {Map<number, { count: Set<number>, wrong: number, last: number }>} */
  const runs = new Map();
  socket.on('error', (error) => console.error(error.message));
  socket.on('message', (data, from) => {
    const run = data.readUInt32BE(1);
    const state = runs.get(run) ?? { count: new Set(), wrong: 0, last: 0 };
    runs.set(run, state);
    const type = String.fromCharCode(data[0] ?? 0);
    if (type === 'D') {
      const now = Date.now();
      if (state.last > 0 && now - state.last > PAUSE) {
        console.log(JSON.stringify({ run, resumed: now, pause: now - state.last }));
      }
      state.last = now;
      if (isRight(data)) state.count.add(data.readUInt32BE(5));
      else state.wrong++;
    } else if (type === 'C') {
      socket.send(JSON.stringify({ received: state.count.size, wrong: state.wrong }), from.port, from.address);
    } else if (type === 'B') {
      const count = data.readUInt32BE(5);
      for (let number = 0; number < count; number++) {
        socket.send(datagram(run, number, data[9] ?? 0, data.readUInt16BE(10)), from.port, from.address);
      }
    }
  });
  socket.bind(port, '::', () => {
    widen(socket);
    console.log(`listening ${port}`);
  });
}

/**
 * @param {import('node:dgram').Socket} socket
 * @param {number} run
 */
async function burst(socket, run) {
  const count = Number(named['count'] ?? 1000);
  const kind = KINDS.indexOf(named['kind'] ?? 'random');
  const size = Number(named['size'] ?? 200);
  if (mode === 'up') {
    for (let number = 0; number < count; number++) socket.send(datagram(run, number, kind, size));
    // Asked again until the count no longer grows.
    let last = { received: -1, wrong: 0 };
    for (;;) {
      const answer = JSON.parse(await ask(socket, run));
      if (answer.received === count || answer.received === last.received) return { sent: count, ...answer };
      last = answer;
      await delay(500);
    }
  }
  const numbers = new Set();
  let wrong = 0;
  let last = performance.now();
  socket.on('message', (data) => {
    last = performance.now();
    if (isRight(data) && data.readUInt32BE(1) === run) numbers.add(data.readUInt32BE(5));
    else wrong++;
  });
  const request = Buffer.alloc(12);
  request.write('B');
  request.writeUInt32BE(run, 1);
  request.writeUInt32BE(count, 5);
  request[9] = kind;
  request.writeUInt16BE(size, 10);
  socket.send(request);
  while (numbers.size < count && performance.now() - last < 2000) await delay(20);
  return { sent: count, received: numbers.size, wrong };
}

/**
 * @param {import('node:dgram').Socket} socket
 * @param {number} run
 */
async function ask(socket, run) {
  const request = Buffer.alloc(5);
  request.write('C');
  request.writeUInt32BE(run, 1);
  for (;;) {
    socket.send(request);
    const answer = await Promise.race([once(socket, 'message'), delay(1000)]);
    if (answer !== undefined) return String(answer[0]);
  }
}

/**
 * @param {import('node:dgram').Socket} socket
 * @param {number} run
 */
async function stream(socket, run) {
  const rate = Number(named['rate'] ?? 1000);
  const size = Number(named['size'] ?? 1200);
  const start = performance.now();
  console.log('streaming');
  for (let number = 0; ; await delay(1)) {
    // A host that was busy does not make up for more than 50 ms.
    const due = Math.floor(((performance.now() - start) * rate) / 1000);
    number = Math.max(number, due - rate / 20);
    for (; number < due; number++) socket.send(datagram(run, number, 0, size));
  }
}

/**
 * @param {number} run
 * @param {number} number
 * @param {number} kind
 * @param {number} size
 */
function datagram(run, number, kind, size) {
  const bytes = Buffer.alloc(Math.max(HEADER, size));
  bytes.write('D');
  bytes.writeUInt32BE(run, 1);
  bytes.writeUInt32BE(number >>> 0, 5);
  bytes[9] = kind;
  if (kind === 1) bytes.fill(0xff, HEADER);
  else if (kind === 2) for (let i = HEADER; i < bytes.length; i++) bytes[i] = i;
  else if (kind === 3) {
    let state = (run ^ number) >>> 0;
    for (let i = HEADER; i < bytes.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      bytes[i] = state >>> 24;
    }
  }
  return bytes;
}

/** @param {Buffer} data */
function isRight(data) {
  if (data.length < HEADER || data[0] !== 'D'.charCodeAt(0)) return false;
  return data.equals(datagram(data.readUInt32BE(1), data.readUInt32BE(5), data[9] ?? 0, data.length));
}

/** @param {import('node:dgram').Socket} socket */
function widen(socket) {
  socket.setRecvBufferSize(BUFFER_BYTES);
  socket.setSendBufferSize(BUFFER_BYTES);
}
