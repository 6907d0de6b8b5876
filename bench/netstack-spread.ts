/**
 * Prints how the goodput of one flow is spread over seeds; see netstack-spread.mjs.
 */
import { parseArgs } from 'node:util';
import { Millis, Seconds } from '../src/base/time.js';
import { Simulation } from '../test/netstack/matrix/simulation.js';

/** What a queue holds at least, bytes. */
const LEAST_QUEUE = 20_000;

const { values } = parseArgs({
  options: {
    loss: { type: 'string', default: '0.05' },
    rtt: { type: 'string', default: '100' },
    mbit: { type: 'string', default: '100' },
    seconds: { type: 'string', default: '10' },
    seeds: { type: 'string', default: '60' },
    queue: { type: 'string', default: '1' },
    cubic: { type: 'boolean', default: false },
  },
});
const [loss, rtt, seconds] = [Number(values.loss), Number(values.rtt), Number(values.seconds)];
const rate = Number(values.mbit) * 125_000;
const queue = Math.max(rate * (rtt / 1000) * Number(values.queue), LEAST_QUEUE);

const results: { megabits: number; seed: number }[] = [];
for (let seed = 1; seed <= Number(values.seeds); seed++) {
  const tcp = { congestion: values.cubic ? ('cubic' as const) : ('bbr' as const) };
  const simulation = new Simulation({ rtt: Millis(rtt), loss, rate, queue, seed, tcp }, 1);
  simulation.run(Seconds(seconds), () => false);
  results.push({ megabits: (simulation.total * 8) / seconds / 1e6, seed });
}
results.sort((a, b) => a.megabits - b.megabits);
const at = (share: number): string =>
  results[Math.min(Math.floor(share * results.length), results.length - 1)]!.megabits.toFixed(1);
console.log(
  `loss ${loss * 100} %, ${rtt} ms, ${values.mbit} Mbit/s, ${seconds} s: min ${at(0)}  p5 ${at(0.05)}  p25 ${at(0.25)}  p50 ${at(0.5)}  max ${at(1)}`,
);
console.log(
  `worst seeds: ${results
    .slice(0, 5)
    .map((r) => `${r.seed} (${r.megabits.toFixed(1)})`)
    .join(', ')}`,
);
