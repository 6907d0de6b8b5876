/** The command line of `npm run soak -- --nat`: every pair of NATs, the table that docs/nat.md shows. */
import { SallyportError } from '../../src/base/error.js';
import { Lab } from '../../test/lab/lab.js';
import { matrixMarkdown, runMatrix } from './matrix.js';

const reason = Lab.unavailable();
if (reason !== undefined) throw new SallyportError('environment', 'LAB_NOT_AVAILABLE', reason);
Lab.cleanStale();
const matrix = await runMatrix((line) => process.stderr.write(`${line}\n`));
process.stdout.write(`${matrixMarkdown(matrix)}\n`);
