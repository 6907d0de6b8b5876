/**
 * The TCP stack against itself in virtual time: throughput for 9 buffer sizes × 8 loss rates at a round trip of 100 ms
 * (transfers of 10 MiB), and how fairly 1–64 flows share a bottleneck. Prints the tables of docs/netstack.md and the commit, and ends
 * with 1 when a cell is below smoltcp's or a fairness below 0.97. With `--buffer` or `--flows` only those rows are made.
 *
 *   node bench/netstack-matrix.mjs [--quick] [--congestion cubic|newreno|bbr] [--buffer BYTES]… [--flows N]…
 */
await import('../test/lab/typescript.mjs');
await import('./netstack-matrix.ts');
