/**
 * A local port that stands for one service, as written on the command line.
 *
 *   [tcp://|udp://]LISTEN=SERVICE[:PORT]   LISTEN: `5432` (on 127.0.0.1), `127.0.0.1:5432`, `[::1]:5432`; port 0 = any free one
 *                                          SERVICE: a service id, its full name, an IPv4 literal, an IPv6 literal in brackets
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import type { Target } from './negotiation.js';

const LOOPBACK = IpAddress.v4(0x7f000001);
const FORWARD = /^(?:(tcp|udp):\/\/)?([^=]+)=(.*)$/;
const TARGET = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,255}))(?::(\d{1,5}))?$/;

export interface Forward {
  readonly protocol: 'tcp' | 'udp';
  readonly listen: SocketAddress;
  readonly target: Target;
}

/** @throws SallyportError FORWARD_SYNTAX (caller). */
export function parseForward(text: string): Forward {
  const match = FORWARD.exec(text);
  const listen = match === null ? undefined : parseListen(match[2]!);
  const target = match === null ? undefined : parseTarget(match[3]!);
  if (listen === undefined || target === undefined) {
    throw new SallyportError('caller', 'FORWARD_SYNTAX', `"${text}" is not a forward`, {
      hint: 'write LISTEN=SERVICE[:PORT], for example 127.0.0.1:5432=db or udp://127.0.0.1:5353=dns:53',
    });
  }
  return { protocol: match![1] === 'udp' ? 'udp' : 'tcp', listen, target };
}

function parseListen(text: string): SocketAddress | undefined {
  if (!/^\d{1,5}$/.test(text)) return SocketAddress.parse(text);
  return Number(text) > 65535 ? undefined : new SocketAddress(LOOPBACK, Number(text));
}

function parseTarget(text: string): Target | undefined {
  const match = TARGET.exec(text);
  if (match === null) return undefined;
  const port = match[3] === undefined ? undefined : Number(match[3]);
  if (port !== undefined && (port === 0 || port > 65535)) return undefined;
  if (match[1] !== undefined && IpAddress.parse(match[1]) === undefined) return undefined;
  return { host: match[1] ?? match[2]!, port };
}
