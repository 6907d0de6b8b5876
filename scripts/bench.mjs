/**
 * `npm run bench`: runs bench/main.ts as it is, in this process.
 */
await import('../test/lab/typescript.mjs');
await import('../bench/main.ts');
