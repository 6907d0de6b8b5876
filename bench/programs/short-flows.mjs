/**
 * Many short TCP connections to an echo server, a few at a time: each sends its number, waits for it to come back, and ends. Prints
 * one line of JSON: {done, failed, p50}   (p50: µs from the first packet until the answer is there).
 *
 * short-flows.mjs HOST PORT [--count 100] [--parallel 8]
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { parseArguments } from '../../test/lab/programs/content.mjs';

/** A flow that takes longer has failed, in milliseconds. */
const TIME_LIMIT = 10_000;

const { named, plain } = parseArguments(process.argv.slice(2));
const [host = '127.0.0.1', port = '7'] = plain;
const count = Number(named['count'] ?? 100);
const result = { done: 0, failed: 0, p50: 0 };
const times = /** @type {number[]} */ ([]);
let next = 0;

async function work() {
  while (next < count) {
    const number = String(next++);
    const begun = performance.now();
    const socket = connect({ host, port: Number(port), timeout: TIME_LIMIT });
    socket.on('timeout', () => socket.destroy(new Error('timeout')));
    try {
      await once(socket, 'connect');
      socket.end(number);
      let answer = '';
      for await (const piece of socket) answer += piece;
      times.push((performance.now() - begun) * 1000);
      result[answer === number ? 'done' : 'failed']++;
    } catch {
      result.failed++;
    }
    socket.destroy();
  }
}

await Promise.all(Array.from({ length: Number(named['parallel'] ?? 8) }, work));
times.sort((a, b) => a - b);
result.p50 = times[times.length >> 1] ?? 0;
console.log(JSON.stringify(result));
