/** The machine and the state of the repository, for the record of a benchmark; and where peers' programs are kept. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { cpus, homedir, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { REPOSITORY } from '../test/lab/services.js';
import { machineTicks, TICKS_PER_SECOND } from './measure/usage.js';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly iperf3: string;
  /** Congestion control of the kernel's TCP, where nothing else is said. */
  readonly congestion: string;
  readonly commit: string;
  /** True when files of the work tree differ from the commit. */
  readonly modified: boolean;
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    iperf3: output(['iperf3', '--version']).split('\n')[0]!,
    congestion: output(['sysctl', '-n', 'net.ipv4.tcp_congestion_control']),
    commit: commitOf(),
    modified: output(['git', '-C', REPOSITORY, 'status', '--porcelain', '--untracked-files=no']) !== '',
  };
}

/** The commit of the work tree, 12 digits. */
export function commitOf(): string {
  return output(['git', '-C', REPOSITORY, 'rev-parse', '--short=12', 'HEAD']);
}

/** A folder outside the repository that lives on between runs. */
export function cacheFolder(): string {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'sallyport-bench');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** How many cores are busy with other things right now (0 … cores), over 300 ms. Call it while nothing of ours runs. */
export async function otherLoad(): Promise<number> {
  const before = machineTicks();
  const started = performance.now();
  await delay(300);
  return (machineTicks() - before) / TICKS_PER_SECOND / ((performance.now() - started) / 1000);
}

/** The 1-minute load average. */
export function loadAverage(): number {
  return Number(readFileSync('/proc/loadavg', 'latin1').split(' ')[0]);
}

function output(argv: readonly string[]): string {
  try {
    return execFileSync(argv[0]!, argv.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return 'unknown';
  }
}
