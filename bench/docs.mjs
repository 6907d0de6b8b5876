/** Renews the tables of docs/benchmarks.md from bench/results: `node bench/docs.mjs`. */
import { readFileSync, writeFileSync } from 'node:fs';

await import('../test/lab/typescript.mjs');
const { PAGE, withResults } = await import('./docs.ts');
writeFileSync(PAGE, withResults(readFileSync(PAGE, 'utf8')));
