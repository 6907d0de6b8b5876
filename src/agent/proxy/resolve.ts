/**
 * From what a proxy client asks for to the virtual address its connection goes to.
 *
 *   SERVICE.NETWORK.internal[.] · SERVICE         the service's virtual IPv4 (IPv6 for an agent without an IPv4 overlay address)
 *   address literal                               itself: a virtual address, or one inside a cidr service's prefix
 *   anything else                                 not allowed: nothing but the network's services goes through the proxy
 *
 * The answer to "may it" is the per-packet table's, so the proxy and the packet path cannot disagree.
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { Drop } from '../../base/drop.js';
import type { AccessTable } from '../../policy/access.js';
import type { Identity } from '../../policy/proof.js';
import { formatPorts } from '../../policy/ranges.js';
import type { CompiledService, PolicyView, Subject } from '../../policy/view.js';
import type { Failure } from './negotiation.js';

/** IANA protocol numbers. */
const PROTOCOL = { tcp: 6, udp: 17 } as const;
export type ProxyProtocol = keyof typeof PROTOCOL;

/** What resolution needs of the agent's identity. */
export type ProxySubject = Subject & Pick<Identity, 'overlay4' | 'overlay6'>;

export type Resolution =
  | { readonly ok: true; readonly address: SocketAddress; readonly service: CompiledService }
  /** `detail`: one line for a person. */
  | { readonly ok: false; readonly failure: Failure; readonly detail: string };

/**
 * @param host a name or an address literal without brackets, any case.
 * @param port 0 … 65535; undefined = the service's port, when the grants leave exactly one.
 * @param access the subject's table, when the caller has it at hand: `view.accessFor(subject)`.
 */
export function resolveTarget(
  host: string,
  port: number | undefined,
  view: PolicyView,
  subject: ProxySubject,
  access: AccessTable = view.accessFor(subject),
  protocol: ProxyProtocol = 'tcp',
): Resolution {
  const literal = IpAddress.parse(host);
  if (literal !== undefined) return admit(host, literal, port, view, subject, access, protocol);
  const service = serviceNamed(host, view);
  if (service === undefined) {
    return refuse(`${host} is not a service of ${view.document.network}; nothing else goes through this proxy`);
  }
  if (!view.mayUse(subject, service.id)) return refuse(`${service.id} is not granted to ${subject.name}`);
  const { virtualIp4, virtualIp6, prefix } = service.entry;
  const text = subject.overlay4 === undefined && subject.overlay6 !== undefined ? virtualIp6 : virtualIp4;
  if (text === undefined) return refuse(`${service.id} stands for ${prefix}; ask for an address inside it`);
  return admit(
    service.id,
    IpAddress.parse(text)!,
    port ?? onlyPort(view.allowedPorts(subject, service)),
    view,
    subject,
    access,
    protocol,
  );
}

function admit(
  asked: string,
  ip: IpAddress,
  port: number | undefined,
  view: PolicyView,
  subject: ProxySubject,
  access: AccessTable,
  protocol: ProxyProtocol,
): Resolution {
  if (port === undefined) return refuse(`${asked} has no single port; name one`);
  const verdict = access.check(PROTOCOL[protocol], ip.w0, ip.w1, ip.w2, ip.w3, port);
  if (verdict >= 0) return { ok: true, address: new SocketAddress(ip, port), service: view.services[verdict]! };
  if (verdict === -Drop.protocol_not_allowed) return refuse(`${asked} is not reachable over ${protocol.toUpperCase()}`);
  if (verdict === -Drop.port_not_allowed) return refuse(portDetail(asked, port, view, subject));
  return refuse(`${asked} is not an address of a service that is granted to ${subject.name}`);
}

function portDetail(asked: string, port: number, view: PolicyView, subject: ProxySubject): string {
  const service = view.service(asked);
  const ports = service === undefined ? '' : `; granted: ${formatPorts(view.allowedPorts(subject, service))}`;
  return `port ${port} of ${asked} is not granted to ${subject.name}${ports}`;
}

function refuse(detail: string): Resolution {
  return { ok: false, failure: 'not-allowed', detail };
}

/** A trailing dot marks a full name (RFC 1034 §3.1), so it is taken off full names only. */
function serviceNamed(host: string, view: PolicyView): CompiledService | undefined {
  const name = host.toLowerCase();
  const full = name.endsWith('.') ? name.slice(0, -1) : name;
  const suffix = `.${view.document.network}.internal`;
  return view.service(full.endsWith(suffix) ? full.slice(0, -suffix.length) : name);
}

function onlyPort(ranges: readonly number[]): number | undefined {
  return ranges.length === 2 && ranges[0] === ranges[1] ? ranges[0] : undefined;
}
