/** What the packet threads allocate per packet, and what its collection costs: `npm run build && node bench/heap.mjs [--json] [--out FILE]` (root). */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

// Functions are listed by their modules, which the bundle has made one file of.
process.env.SALLYPORT_PROGRAM ??= join(fileURLToPath(new URL('../dist', import.meta.url)), 'cli', 'main.js');
await import('../test/lab/typescript.mjs');
await import('./heap.ts');
