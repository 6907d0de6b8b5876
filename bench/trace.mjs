/**
 * How long `sallyport trace` takes as a program, from its start to its end, over ten hops with a round trip of 20 ms each:
 * `node bench/trace.mjs [--runs 10] [--delay 10] [--json] [-- FLAGS OF TRACE]` (root; after `npx tsc -b`).
 */
await import('../test/lab/typescript.mjs');
await import('./trace.ts');
