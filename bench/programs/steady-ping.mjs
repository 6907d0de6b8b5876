/**
 * Asks a UDP echo server every `gap` milliseconds for as long as it runs, from a socket that is not connected, so that each question
 * takes the route of its moment. Commands on standard input, a line each; a window is what was asked since the last `reset`:
 *
 *   reset    begins a window                                         prints "reset N"
 *   report   prints {sent, received, lost, longestGapMs, firstAnswerAt, lostBySecond}
 *
 * Gaps are between two answers, one that lies across the reset too, and up to the report; lost are questions of the window that have no
 * answer although they are older than --patience; firstAnswerAt is a wall time in milliseconds.
 *
 * steady-ping.mjs HOST PORT [--gap 10] [--size 64] [--patience 1000]
 */
import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';
import { parseArguments } from '../../test/lab/programs/content.mjs';

/** Questions remembered. */
const MEMORY = 65_536;

const { named, plain } = parseArguments(process.argv.slice(2));
const [host = '127.0.0.1', port = '7'] = plain;
const gap = Number(named['gap'] ?? 10);
const patience = Number(named['patience'] ?? 1000);
const size = Math.max(4, Number(named['size'] ?? 64));
const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
const sentAt = new Float64Array(MEMORY);
const answered = new Uint8Array(MEMORY);
let next = 0;
let first = 0;
let resets = 0;
let received = 0;
let longestGapMs = 0;
let lastAnswer = performance.now();
/** @type {number | undefined} */
let firstAnswerAt;

socket.on('error', () => undefined);
socket.on('message', (data) => {
  const sequence = data.readUInt32BE(0);
  if (sequence >= next || sequence + MEMORY <= next || answered[sequence % MEMORY] === 1) return;
  answered[sequence % MEMORY] = 1;
  const now = performance.now();
  longestGapMs = Math.max(longestGapMs, now - lastAnswer);
  lastAnswer = now;
  if (sequence < first) return;
  received++;
  firstAnswerAt ??= Date.now();
});

const started = performance.now();
let due = 0;
const ask = () => {
  // Late timers are made good, so that the rate is the one that was asked for.
  for (; started + due * gap <= performance.now(); due++) {
    sentAt[next % MEMORY] = performance.now();
    answered[next % MEMORY] = 0;
    // One of its own for each: it is read when it is sent, which may be after the next is due.
    const question = Buffer.alloc(size);
    question.writeUInt32BE(next++, 0);
    socket.send(question, Number(port), host, () => undefined);
  }
  setTimeout(ask, Math.max(0, started + due * gap - performance.now()));
};
socket.bind(0, ask);

createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'reset') {
      first = next;
      received = 0;
      longestGapMs = 0;
      firstAnswerAt = undefined;
      console.log(`reset ${++resets}`);
    } else if (line === 'report') console.log(JSON.stringify(report()));
  })
  .on('close', () => process.exit(0));

function report() {
  const now = performance.now();
  const lostBySecond = /** @type {number[]} */ ([]);
  const from = Math.max(first, next - MEMORY);
  const begun = Number(sentAt[from % MEMORY]);
  let lost = 0;
  for (let sequence = from; sequence < next; sequence++) {
    const at = Number(sentAt[sequence % MEMORY]);
    if (answered[sequence % MEMORY] === 1 || now - at < patience) continue;
    lost++;
    const second = Math.floor((at - begun) / 1000);
    lostBySecond[second] = (lostBySecond[second] ?? 0) + 1;
  }
  return {
    sent: next - first,
    received,
    lost,
    longestGapMs: Math.max(longestGapMs, now - lastAnswer),
    firstAnswerAt,
    lostBySecond: Array.from(lostBySecond, (count) => count ?? 0),
  };
}
