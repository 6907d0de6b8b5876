/**
 * Real services for laboratory hosts: each function starts one program, waits until it listens, and returns it. The node programs
 * are in `programs/` and can be started by hand too.
 */
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Host, run } from './host.js';
import type { LabProcess } from './process.js';

/** The repository's folder, found from wherever this file runs (its source or a compiled copy). */
export const REPOSITORY = findRepository(dirname(fileURLToPath(import.meta.url)));

export interface ListenOptions {
  readonly port?: number;
  /** Default `::`, which takes IPv4 too. */
  readonly address?: string;
}

/** argv of one of `programs/`. */
export function program(name: string, ...argv: readonly string[]): string[] {
  return [process.execPath, join(REPOSITORY, 'test', 'lab', 'programs', `${name}.mjs`), ...argv];
}

/** See programs/http-server.mjs; default port 8080. */
export async function startHttp(host: Host, options: ListenOptions = {}): Promise<LabProcess> {
  return listening(host, program('http-server', ...listenArguments(options, 8080)));
}

export type TcpMode = 'echo' | 'sink' | 'source' | 'stall' | 'reset';

/** See programs/tcp-server.mjs; default port 7. `bytes` and `seed` are for mode `source`. */
export async function startTcp(
  host: Host,
  mode: TcpMode,
  options: ListenOptions & { readonly bytes?: number; readonly seed?: number } = {},
): Promise<LabProcess> {
  const extra = ['--bytes', String(options.bytes ?? 1_048_576), '--seed', String(options.seed ?? 1)];
  return listening(host, program('tcp-server', '--mode', mode, ...extra, ...listenArguments(options, 7)));
}

/** See programs/udp-server.mjs; default port 7. */
export async function startUdpEcho(host: Host, options: ListenOptions = {}): Promise<LabProcess> {
  return listening(host, program('udp-server', ...listenArguments(options, 7)));
}

/** See programs/quic-file.mjs. `at`: ADDRESS:PORT */
export async function startQuicFile(host: Host, at: string, keys: string): Promise<LabProcess> {
  return listening(host, program('quic-file', 'server', at, '--keys', keys));
}

/** See programs/dns-server.mjs; default port 53, 60 s to live. `zone`: name → addresses of either family. */
export async function startDns(
  host: Host,
  zone: Readonly<Record<string, readonly string[]>>,
  options: ListenOptions & { readonly ttl?: number } = {},
): Promise<LabProcess> {
  const entries = Object.entries(zone).flatMap(([name, addresses]) => addresses.map((address) => `${name}=${address}`));
  return listening(
    host,
    program('dns-server', ...entries, '--ttl', String(options.ttl ?? 60), ...listenArguments(options, 53)),
  );
}

/** An iperf3 server, default port 5201; serves one client at a time, again and again. */
export async function startIperf(host: Host, options: ListenOptions = {}): Promise<LabProcess> {
  const port = options.port ?? 5201;
  const bind = options.address === undefined ? [] : ['-B', options.address];
  const started = host.spawn(['iperf3', '-s', '-p', String(port), '--forceflush', ...bind]);
  await started.waitForPort('tcp', port);
  return started;
}

export interface SshServer {
  readonly process: LabProcess;
  /** argv of an ssh client that logs in as root, up to and without the target. */
  readonly client: readonly string[];
  /** Removes the keys; the program ends with the laboratory or by `process.stop()`. */
  cleanUp(): void;
}

/** An OpenSSH server with keys of its own, default port 22; root logs in by a key made for it. */
export async function startSsh(host: Host, options: ListenOptions = {}): Promise<SshServer> {
  const port = options.port ?? 22;
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-lab-ssh-'));
  for (const key of ['host', 'user']) run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(folder, key)]);
  run(['cp', join(folder, 'user.pub'), join(folder, 'authorized')]);
  chmodSync(join(folder, 'authorized'), 0o600);
  const config = [
    `Port ${port}`,
    `ListenAddress ${options.address ?? '::'}`,
    ...(options.address === undefined ? ['ListenAddress 0.0.0.0'] : []),
    `HostKey ${join(folder, 'host')}`,
    `AuthorizedKeysFile ${join(folder, 'authorized')}`,
    'PermitRootLogin prohibit-password',
    'PasswordAuthentication no',
    'UsePAM no',
    'StrictModes no',
    'PidFile none',
    'Subsystem sftp internal-sftp',
  ];
  writeFileSync(join(folder, 'config'), `${config.join('\n')}\n`);
  // The server refuses to start without its privilege separation folder.
  run(['mkdir', '-p', '/run/sshd']);
  const started = host.spawn(['/usr/sbin/sshd', '-D', '-e', '-f', join(folder, 'config')]);
  await started.waitForPort('tcp', port);
  const settings = [
    'StrictHostKeyChecking=no',
    'UserKnownHostsFile=/dev/null',
    'LogLevel=ERROR',
    'BatchMode=yes',
    'User=root',
    `Port=${port}`,
    `IdentityFile=${join(folder, 'user')}`,
  ].flatMap((setting) => ['-o', setting]);
  return {
    process: started,
    client: ['ssh', '-F', 'none', ...settings],
    cleanUp: () => rmSync(folder, { recursive: true, force: true }),
  };
}

async function listening(host: Host, argv: readonly string[]): Promise<LabProcess> {
  const started = host.spawn(argv);
  await started.waitForLine(/^listening /);
  return started;
}

function listenArguments(options: ListenOptions, port: number): string[] {
  return ['--port', String(options.port ?? port), '--address', options.address ?? '::'];
}

function findRepository(start: string): string {
  let folder = start;
  while (!existsSync(join(folder, 'test', 'lab', 'packages.txt'))) {
    const parent = dirname(folder);
    if (parent === folder) return process.cwd();
    folder = parent;
  }
  return folder;
}
