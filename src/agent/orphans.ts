/**
 * TCP connections of the host's programs through an earlier run of this agent: the other end has forgotten them, and a program
 * that only reads would never learn of it. The kernel lists its sockets by address:
 *
 *   /proc/net/tcp   sl  local_address rem_address   st …        address = 8 (IPv6: 32) hex digits in words of the host's byte
 *                   0:  0200400A:A3C2 0100640A:0050 01 …        order, port = 4 hex digits, st = state
 *
 * proc_net_tcp.rst of the Linux documentation.
 */
import { readFileSync } from 'node:fs';
import { IpAddress, SocketAddress } from '../base/address.js';

/** States in which an end still waits for the other: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT (<net/tcp_states.h>). */
const WAITING_STATES: ReadonlySet<string> = new Set(['01', '04', '05', '08']);
/** More are left to their own keep-alives. */
const MOST = 1024;

export interface Orphan {
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
}

/** The connections from one of these addresses that the kernel knows now; none where it does not tell. */
export function connectionsFrom(addresses: readonly string[]): Orphan[] {
  return ['/proc/thread-self/net/tcp', '/proc/thread-self/net/tcp6'].flatMap((path) => {
    try {
      return parseConnections(readFileSync(path, 'latin1'), addresses);
    } catch {
      return [];
    }
  });
}

/** The same from the text of such a file; at most 1,024. */
export function parseConnections(text: string, addresses: readonly string[]): Orphan[] {
  const found: Orphan[] = [];
  for (const line of text.split('\n').slice(1)) {
    const [, local = '', remote = '', state = ''] = line.trim().split(/\s+/);
    if (found.length === MOST || !WAITING_STATES.has(state)) continue;
    const ends = { local: parseEnd(local), remote: parseEnd(remote) };
    if (ends.local === undefined || ends.remote === undefined) continue;
    if (addresses.includes(ends.local.ip.toString())) found.push({ local: ends.local, remote: ends.remote });
  }
  return found;
}

function parseEnd(text: string): SocketAddress | undefined {
  if (!/^(?:[0-9A-F]{8}|[0-9A-F]{32}):[0-9A-F]{4}$/.test(text)) return undefined;
  const [address, port] = text.split(':') as [string, string];
  const bytes = new Uint8Array(address.length / 2);
  const view = new DataView(bytes.buffer);
  // Every host this runs on is little-endian.
  for (let i = 0; i < bytes.length; i += 4)
    view.setUint32(i, Number.parseInt(address.slice(i * 2, i * 2 + 8), 16), true);
  return new SocketAddress(IpAddress.fromBytes(bytes, 0, bytes.length as 4 | 16), Number.parseInt(port, 16));
}
