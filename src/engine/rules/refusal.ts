/**
 * How a rule refuses a flow. `block` is silence; `reject` is what a program notices at once, and `with=` chooses it:
 *
 *                          TCP (SYN)            UDP                  echo
 *   reject                 RST                  port unreachable     administratively prohibited
 *   reject with=…          the ICMP message     the ICMP message     the ICMP message, but for port unreachable
 *   reject with=reset      RST; TCP alone
 *
 * RFC 9293 §3.10.7.1, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1 (code 13), RFC 4443 §3.1. A connection that stands is reset in any case.
 */
import type { Rejection } from '../../netstack/types.js';
import type { FlowProtocol } from '../hooks.js';

const REFUSALS = [
  'reset',
  'port-unreachable',
  'host-unreachable',
  'net-unreachable',
  'admin-prohibited',
] as const satisfies readonly Rejection[];
export type Refusal = (typeof REFUSALS)[number];

/** What a refusing rule is known by here. */
interface Refusing {
  readonly action: string;
  readonly refusal: Refusal | undefined;
}

const USUAL: Readonly<Record<FlowProtocol, Rejection>> = {
  tcp: 'reset',
  udp: 'port-unreachable',
  icmp: 'admin-prohibited',
};

export const isRefusal = (rule: Refusing | undefined): boolean => rule?.action === 'block' || rule?.action === 'reject';

/** What a flow of this protocol is told by a rule that `isRefusal`. */
export function refusalOf({ action, refusal }: Refusing, protocol: FlowProtocol): Rejection {
  if (action === 'block') return 'ignore';
  // Echo has no ports.
  const isStrange = protocol === 'icmp' && refusal === 'port-unreachable';
  return refusal === undefined || isStrange ? USUAL[protocol] : refusal;
}

/** Why a rule cannot say `with=`; undefined when it can. */
export function refusalProblem(action: string, text: string, protocol: FlowProtocol | undefined): string | undefined {
  if (!(REFUSALS as readonly string[]).includes(text)) return `with= is ${REFUSALS.join(', ')}`;
  if (action !== 'reject') return `with= belongs to reject, not to ${action}`;
  if (text === 'reset' && protocol !== 'tcp') return 'with=reset is of TCP: protocol=tcp';
  return text === 'port-unreachable' && protocol === 'icmp' ? 'ICMP has no ports' : undefined;
}
