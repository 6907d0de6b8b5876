/** Capacity of the laboratory's bad link by itself: `node bench/wire.mjs` (root). */
await import('../test/lab/typescript.mjs');
await import('./wire.ts');
