/**
 * Programs of a Go module, in the newest published version that the Go at hand builds, kept in the cache folder between runs.
 *
 *   versions, newest first ─► in the cache already? ─► go install ─► refused (needs a newer Go)? the next older one
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SallyportError } from '../../src/base/error.js';
import { cacheFolder } from '../machine.js';

const run = promisify(execFile);

/** How many versions are tried before giving up: a Go more than some months old is not worth a comparison. */
const VERSIONS_TRIED = 4;

export interface GoPrograms {
  /** Where the programs are. */
  readonly folder: string;
  /** Version of the module and of the Go that built it. */
  readonly version: string;
}

/** Builds `packages` (below the module's path; '' is the module itself) with these build tags. Throws BENCH_SUBJECT_UNAVAILABLE. */
export async function goPrograms(
  module: string,
  packages: readonly string[],
  tags: readonly string[] = [],
): Promise<GoPrograms> {
  const refusals: string[] = [];
  try {
    const cwd = cacheFolder();
    const name = module.split('/').at(-1)!;
    for (const version of await newestVersions(module, cwd)) {
      const folder = join(cwd, `${name}-${version}`);
      const built = join(folder, (packages[0] === '' ? module : packages[0]!).split('/').at(-1)!);
      if (!existsSync(built)) {
        mkdirSync(folder, { recursive: true });
        const targets = packages.map((path) => `${module}${path === '' ? '' : `/${path}`}@${version}`);
        try {
          // The Go at hand: another toolchain would be downloaded otherwise.
          await run('go', ['install', ...(tags.length === 0 ? [] : ['-tags', tags.join()]), ...targets], {
            cwd,
            env: { ...process.env, GOBIN: folder, GOTOOLCHAIN: 'local' },
          });
        } catch (cause) {
          refusals.push(firstLine((cause as { stderr?: string }).stderr || (cause as Error).message));
          continue;
        }
      }
      const { stdout: go } = await run('go', ['version', built]);
      const older = refusals.length === 0 ? '' : `; newer ones are not built by it: ${refusals[0]}`;
      return { folder, version: `${version}, ${go.trim().split(' ').at(-1)}${older}` };
    }
  } catch (cause) {
    refusals.push(firstLine((cause as Error).message));
  }
  const message = `${module} cannot be built here: ${refusals[0] ?? 'no version found'}`;
  throw new SallyportError('environment', 'BENCH_SUBJECT_UNAVAILABLE', message);
}

/** Newest first. A module without tagged versions has one: the newest commit. */
async function newestVersions(module: string, cwd: string): Promise<string[]> {
  const { stdout } = await run('go', ['list', '-m', '-versions', '-f', '{{join .Versions " "}}', module], { cwd });
  const tagged = stdout
    .trim()
    .split(' ')
    .filter((version) => /^v\d+\.\d+\.\d+$/.test(version));
  const { stdout: latest } = await run('go', ['list', '-m', '-f', '{{.Version}}', `${module}@latest`], { cwd });
  return [...new Set([latest.trim(), ...tagged.reverse()])].slice(0, VERSIONS_TRIED);
}

function firstLine(text: string): string {
  return text.trim().split('\n')[0] ?? '';
}
