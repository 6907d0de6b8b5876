/**
 * A WireGuard tunnel between two laboratory hosts: the kernel's where it has one, else wireguard-go's.
 *
 *   left ─ wgl ═ UDP 51820 ═ wgr ─ right          allowed on both: everything
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SallyportError } from '../../../src/base/error.js';
import { type Host, run } from '../../lab/host.js';
import { pollUntil } from '../../lab/process.js';

const PORT = 51_820;

export interface TunnelEnd {
  readonly host: Host;
  /** Under which the other end sends to it. */
  readonly outer: string;
  /** Inside, with prefix lengths. */
  readonly inner: readonly string[];
}

/** Names of the devices at both ends. */
export async function wireguard(left: TunnelEnd, right: TunnelEnd): Promise<readonly [string, string]> {
  const keys = [makeKey(), makeKey()] as const;
  // Control sockets of wireguard-go lie in one folder of the whole machine.
  const names = [`wgl${process.pid}`, `wgr${process.pid}`] as const;
  const ends = [left, right] as const;
  for (const i of [0, 1] as const) {
    const { host, inner } = ends[i];
    const other = 1 - i;
    const name = names[i];
    await makeDevice(host, name);
    const folder = mkdtempSync(join(tmpdir(), 'spl-wg-'));
    try {
      writeFileSync(join(folder, 'key'), keys[i].secret, { mode: 0o600 });
      const peer = [
        'peer',
        keys[other]!.public,
        'allowed-ips',
        '0.0.0.0/0,::/0',
        'endpoint',
        `${ends[other]!.outer}:${PORT}`,
      ];
      const own = ['listen-port', String(PORT), 'private-key', join(folder, 'key')];
      await host.exec(['wg', 'set', name, ...own, ...peer]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    for (const address of inner) host.ip('address', 'add', address, 'dev', name);
    host.ip('link', 'set', name, 'mtu', '1420', 'up');
  }
  return names;
}

async function makeDevice(host: Host, name: string): Promise<void> {
  try {
    host.ip('link', 'add', name, 'type', 'wireguard');
  } catch (error) {
    if (!(error instanceof SallyportError)) throw error;
    host.spawn(['wireguard-go', '-f', name], { env: { LOG_LEVEL: 'error' } });
    await pollUntil(`the device ${name}`, async () => {
      const shown = await host.exec(['wg', 'show', name], { check: false });
      return shown.code === 0;
    });
  }
}

function makeKey(): { readonly secret: string; readonly public: string } {
  const secret = run(['wg', 'genkey']);
  return { secret, public: run(['wg', 'pubkey'], secret).trim() };
}
