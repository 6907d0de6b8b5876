/**
 * Asks a UDP echo server and prints one line of JSON.
 *
 *   in turn   one question after the other's answer, --count of them:     {sent, received, p50, p95, p99}   (µs)
 *   steady    one question every --gap ms for --seconds, whatever comes:  {sent, received, longestGap, gapAt}   (ms; between answers)
 *
 * udp-probe.mjs HOST PORT (--count N | --seconds S [--gap 5]) [--size 64] [--pause 0]   (pause: ms between an answer and the next question)
 */
import { createSocket } from 'node:dgram';
import { parseArguments } from '../../test/lab/programs/content.mjs';

/** How long an answer is waited for before the next question is asked, in milliseconds. */
const LOST_AFTER = 500;

const { named, plain } = parseArguments(process.argv.slice(2));
const [host = '127.0.0.1', port = '7'] = plain;
const size = Math.max(4, Number(named['size'] ?? 64));
const question = Buffer.alloc(size);
const socket = createSocket('udp4');
// A port that is closed for a while, as during a restart, is no reason to give up.
socket.on('error', () => undefined);
socket.connect(Number(port), host, () => (named['count'] === undefined ? steady() : inTurn()));

function inTurn() {
  const count = Number(named['count']);
  const pause = Number(named['pause'] ?? 0);
  const times = /** @type {number[]} */ ([]);
  let sent = 0;
  let askedAt = 0;
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const ask = () => {
    if (sent === count) {
      times.sort((a, b) => a - b);
      const at = (/** @type {number} */ share) => times[Math.min(times.length - 1, Math.floor(times.length * share))];
      finish({ sent, received: times.length, p50: at(0.5), p95: at(0.95), p99: at(0.99) });
      return;
    }
    question.writeUInt32BE(sent++, 0);
    timer = setTimeout(ask, LOST_AFTER);
    askedAt = performance.now();
    socket.send(question);
  };
  socket.on('message', (answer) => {
    if (answer.length !== size || answer.readUInt32BE(0) !== sent - 1) return;
    times.push((performance.now() - askedAt) * 1000);
    clearTimeout(timer);
    if (pause === 0) ask();
    else setTimeout(ask, pause);
  });
  ask();
}

function steady() {
  const ends = performance.now() + Number(named['seconds'] ?? 5) * 1000;
  const begun = performance.now();
  const result = { sent: 0, received: 0, longestGap: 0, gapAt: 0 };
  let last = performance.now();
  socket.on('message', (answer) => {
    if (answer.length !== size) return;
    const now = performance.now();
    result.received++;
    if (now - last > result.longestGap) Object.assign(result, { longestGap: now - last, gapAt: last - begun });
    last = now;
  });
  const timer = setInterval(
    () => {
      if (performance.now() < ends) {
        result.sent++;
        socket.send(question, () => undefined);
        return;
      }
      clearInterval(timer);
      // What is never answered again is a gap too.
      const silent = performance.now() - last;
      if (silent > LOST_AFTER && silent > result.longestGap)
        Object.assign(result, { longestGap: silent, gapAt: last - begun });
      setTimeout(() => finish(result), 200);
    },
    Number(named['gap'] ?? 5),
  );
}

/** @param {object} result */
function finish(result) {
  console.log(JSON.stringify(result));
  process.exit(0);
}
