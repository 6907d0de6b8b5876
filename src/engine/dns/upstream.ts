/**
 * A server that is asked, as text:
 *
 *   192.0.2.53   [2001:db8::53]:5353   udp://192.0.2.53      UDP, TCP when an answer does not fit
 *   tcp://192.0.2.53                                          TCP only
 *   tls://192.0.2.53#dns.example                              DNS over TLS, port 853; the name is what the certificate must show
 *   https://192.0.2.53/dns-query#dns.example                  DNS over HTTPS, port 443
 *
 * Servers are addresses: a name would need the very resolver it is for. RFC 7858, RFC 8484.
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import { hostName } from '../names/host-name.js';

export interface DnsServer {
  readonly transport: 'udp' | 'tcp' | 'tls' | 'https';
  readonly address: SocketAddress;
  /** What the certificate must show; the address's text when none is given. */
  readonly serverName: string;
  /** Of DNS over HTTPS. */
  readonly path: string;
}

const PORTS = { udp: 53, tcp: 53, tls: 853, https: 443 } as const;
const PATH = '/dns-query';
const FORM =
  /^(?:(udp|tcp|tls|https):\/\/)?(\[[^\]]+\]|[^/#[\]]+?)(?::(\d{1,5}))?(\/[\x21-\x22\x24-\x7e]*)?(?:#(.+))?$/;

/** @throws SallyportError DNS_SERVER (caller). */
export function parseDnsServer(text: string): DnsServer {
  const bare = IpAddress.parse(text);
  if (bare !== undefined) return serverOf('udp', bare, undefined, undefined, undefined);
  const match = FORM.exec(text);
  const transport = (match?.[1] ?? 'udp') as DnsServer['transport'];
  const ip = match === null ? undefined : IpAddress.parse(match[2]!.replace(/^\[|\]$/g, ''));
  if (match === null || ip === undefined) {
    throw invalid(
      text,
      'a server is an address, as in 192.0.2.53, tls://192.0.2.53#dns.example or https://192.0.2.53/dns-query',
    );
  }
  const [, , , portText, path, name] = match;
  const port = portText === undefined ? undefined : Number(portText);
  if (port !== undefined && (port < 1 || port > 65535)) throw invalid(text, 'a port is 1 to 65535');
  if (path !== undefined && transport !== 'https') throw invalid(text, 'only https:// servers have a path');
  if (name !== undefined && (transport === 'udp' || transport === 'tcp')) {
    throw invalid(text, 'only tls:// and https:// servers have a name');
  }
  const host = name === undefined ? undefined : hostName(name);
  if (name !== undefined && host === undefined) throw invalid(text, `${name} is no host name`);
  return serverOf(transport, ip, port, path, host);
}

export function formatDnsServer(server: DnsServer): string {
  const { transport, address, serverName, path } = server;
  const name = serverName === address.ip.toString() ? '' : `#${serverName}`;
  return `${transport}://${address}${transport === 'https' ? path : ''}${name}`;
}

function serverOf(
  transport: DnsServer['transport'],
  ip: IpAddress,
  port: number | undefined,
  path: string | undefined,
  name: string | undefined,
): DnsServer {
  const address = new SocketAddress(ip, port ?? PORTS[transport]);
  return { transport, address, serverName: name ?? ip.toString(), path: path ?? PATH };
}

function invalid(text: string, why: string): SallyportError {
  return new SallyportError('caller', 'DNS_SERVER', `"${text}" is no DNS server: ${why}`);
}
