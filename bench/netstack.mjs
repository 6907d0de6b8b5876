/** TCP through two userspace stacks back to back on one core: `node bench/netstack.mjs [--json] [--out FILE] [--quick]`; see netstack.ts. */
await import('../test/lab/typescript.mjs');
await import('./netstack.ts');
