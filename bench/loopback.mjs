/** Small figures on loopback: `npm run build && node bench/loopback.mjs [--json] [--out FILE]` (root). */
await import('../test/lab/typescript.mjs');
await import('./loopback.ts');
