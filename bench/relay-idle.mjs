/** What idle relay connections cost: `npm run build && node bench/relay-idle.mjs [--connections N] [--idle SECONDS] [--json] [--out FILE]`. */
await import('../test/lab/typescript.mjs');
await import('./relay-idle.ts');
