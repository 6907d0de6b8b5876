/**
 * The text form of a service's backend, as `--service` takes it and the join token proposes it.
 *
 *   [ID=]PROTO://TARGET[,virtualIp=ADDRESS]…[,path=relay|direct]
 *   PROTO   tcp | udp | icmp | tcp+udp | any (= all three)
 *   TARGET  HOST:PORT         one port of a host (name or address, IPv6 in brackets)
 *           HOST              a whole host, any port
 *           PREFIX[:PORT]     real addresses, for example 10.0.0.0/24 or fd12::/48
 *
 * RFC 3986 §3.2.2 (IPv6 in brackets), RFC 4632 §3.1 (prefixes).
 */
import { IpAddress, Prefix } from '../base/address.js';
import { SallyportError } from '../base/error.js';
import { type Ports, SERVICE_PATHS, type ServicePath, type ServiceProtocol } from './document.js';
import { isLabel } from './names.js';

export interface Backend {
  readonly protocols: ServiceProtocol[];
  readonly target: 'single' | 'host' | 'cidr';
  /** Name or address (without brackets); for cidr the prefix as text. */
  readonly host: string;
  /** Absent = any. */
  readonly port: number | undefined;
  readonly prefix: Prefix | undefined;
}

/** A `--service` option of an invitation. */
export interface ServiceSpec {
  readonly id: string;
  readonly backend: Backend;
  /** PROTO://HOST[:PORT] or PROTO://PREFIX: what the connector connects to, for the token. */
  readonly url: string;
  readonly virtualIp4: string | undefined;
  readonly virtualIp6: string | undefined;
  /** The links its packets are held to; undefined: none is asked for. */
  readonly path: ServicePath | undefined;
}

const SCHEMES: Readonly<Record<string, readonly ServiceProtocol[]>> = {
  tcp: ['tcp'],
  udp: ['udp'],
  icmp: ['icmp'],
  'tcp+udp': ['tcp', 'udp'],
  any: ['tcp', 'udp', 'icmp'],
};
const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/;

/** @throws SallyportError SERVICE_SPEC (caller). */
export function parseBackend(text: string): Backend {
  const match = /^([a-z+]+):\/\/(\[[^\]]+\]|[^:[\]/]+|[0-9a-fA-F:.]+(?=\/))(\/\d{1,3})?(?::(\d{1,5}))?$/.exec(text);
  if (match === null) throw invalid(text, 'must be PROTO://HOST[:PORT] or PROTO://PREFIX');
  const [, scheme, bracketed, length, portText] = match as unknown as [string, string, string, string?, string?];
  const host = bracketed.startsWith('[') ? bracketed.slice(1, -1) : bracketed;
  const ip = IpAddress.parse(host);
  if (bracketed.startsWith('[') ? ip === undefined || ip.isV4 : ip === undefined && !HOST_NAME.test(host)) {
    throw invalid(text, `${host} is neither an address nor a host name`);
  }
  if (ip === undefined && /^[\d.]+$/.test(host)) throw invalid(text, `${host} is not an IPv4 address`);
  const port = portText === undefined ? undefined : Number(portText);
  if (port !== undefined && (port < 1 || port > 65535)) throw invalid(text, 'a port is 1 to 65535');
  const protocols = parseProtocols(scheme, text);
  if (port !== undefined && protocols.every((protocol) => protocol === 'icmp'))
    throw invalid(text, 'icmp has no ports');
  if (length === undefined) {
    return { protocols, target: port === undefined ? 'host' : 'single', host, port, prefix: undefined };
  }
  const prefix = Prefix.parse(`${host}${length}`);
  if (prefix === undefined || prefix.length === 0) throw invalid(text, `${host}${length} is not a prefix`);
  if (prefix.toString() !== `${ip}${length}`) throw invalid(text, `the prefix has host bits: did you mean ${prefix}?`);
  return { protocols, target: 'cidr', host: prefix.toString(), port, prefix };
}

/** @throws SallyportError SERVICE_SPEC (caller). */
export function parseServiceSpec(text: string): ServiceSpec {
  const at = text.indexOf('=');
  const id = text.slice(0, Math.max(at, 0));
  const [url = '', ...options] = text.slice(at + 1).split(',');
  if (!isLabel(id)) throw invalid(text, 'must begin with ID=, a lower-case DNS label');
  const backend = parseBackend(url);
  let virtualIp4: string | undefined;
  let virtualIp6: string | undefined;
  let path: ServicePath | undefined;
  for (const option of options) {
    if (option.startsWith('path=')) {
      path = SERVICE_PATHS.find((one) => option === `path=${one}`);
      if (path === undefined) throw invalid(text, `${option}: must be ${SERVICE_PATHS.join(' or ')}`);
      continue;
    }
    const ip = option.startsWith('virtualIp=') ? IpAddress.parse(option.slice('virtualIp='.length)) : undefined;
    if (ip === undefined)
      throw invalid(text, `unknown option ${option}; there are virtualIp=ADDRESS and path=${SERVICE_PATHS.join('|')}`);
    if (backend.target === 'cidr') throw invalid(text, 'a service with a real prefix has no virtual address');
    if (ip.isV4) virtualIp4 = ip.toString();
    else virtualIp6 = ip.toString();
  }
  // A prefix's port, if any, is the policy's business: its addresses are themselves the backends.
  const scheme = url.slice(0, url.indexOf('://'));
  const address = backend.target === 'cidr' ? `${scheme}://${backend.host}` : url;
  return { id, backend, url: address, virtualIp4, virtualIp6, path };
}

/** The destination ports a backend stands for. */
export function backendPorts(backend: Backend): Ports {
  return backend.port === undefined ? 'any' : [[backend.port, backend.port]];
}

function parseProtocols(scheme: string, text: string): ServiceProtocol[] {
  const protocols = Object.hasOwn(SCHEMES, scheme) ? SCHEMES[scheme] : undefined;
  if (protocols === undefined) throw invalid(text, `${scheme} is none of ${Object.keys(SCHEMES).join(', ')}`);
  return [...protocols];
}

function invalid(text: string, problem: string): SallyportError {
  return new SallyportError('caller', 'SERVICE_SPEC', `service "${text}": ${problem}`, {
    hint: 'for example web=tcp://10.0.0.5:8080, nas=any://10.0.0.9, net=any://10.0.0.0/24',
  });
}
