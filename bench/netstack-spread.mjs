/**
 * What one TCP flow moves in its first seconds over a lossy bottleneck, in virtual time, over many seeds: how bad bad luck is.
 *
 *   node bench/netstack-spread.mjs [--loss 0.05] [--rtt 100] [--mbit 100] [--seconds 10] [--seeds 60] [--queue 1] [--cubic]
 *
 * `--queue`: of the bottleneck, in what the path holds. Prints Mbit/s as quantiles, and the worst seeds.
 */
await import('../test/lab/typescript.mjs');
await import('./netstack-spread.ts');
