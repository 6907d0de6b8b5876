/** What the packet threads allocate per packet, and what its collection costs: `npm run build && node bench/heap.mjs [--json] [--out FILE]` (root). */
await import('../test/lab/typescript.mjs');
await import('./heap.ts');
