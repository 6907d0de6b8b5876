/**
 * Where a connector's services really are: service id → protocol, host and port, as the operator or the configuration wrote it.
 *
 *   tcp://10.0.0.5:80    udp://dns.lan:53    tcp+udp://[fd00::1]:53    icmp://10.0.0.5    any://10.0.0.5    any://10.0.0.0/24
 *
 * Host names are resolved by the driver, now and then; the packet thread only ever sees addresses.
 */
import { IpAddress, Prefix, SocketAddress } from '../base/address.js';
import { SallyportError } from '../base/error.js';
import type { CompiledService } from '../policy/view.js';

const URL_FORM = /^(tcp|udp|icmp|tcp\+udp|any):\/\/(.+)$/;
const HOST_NAME = /^(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$/;

export interface Backend {
  readonly id: string;
  readonly url: string;
  /** A host name or address; undefined for a prefix, whose addresses are themselves the backends. */
  readonly host: string | undefined;
  /** 0 = the port the client asked for. */
  readonly port: number;
  /** The host's address; undefined until resolved. */
  address: IpAddress | undefined;
}

/** @throws SallyportError BACKEND_INVALID (caller), naming service and URL. */
export function parseBackend(id: string, url: string): Backend {
  const fail = (why: string): never => {
    throw new SallyportError('caller', 'BACKEND_INVALID', `service ${id} = ${url}: ${why}`, {
      hint: 'use for example tcp://10.0.0.5:80, udp://dns.lan:53, any://10.0.0.5 or any://10.0.0.0/24',
    });
  };
  const match = URL_FORM.exec(url);
  if (match === null) return fail('not PROTO://HOST:PORT with PROTO tcp, udp, icmp, tcp+udp or any');
  const rest = match[2]!.replace(/\/$/, '');
  if (rest.includes('/')) {
    if (Prefix.parse(rest) === undefined) return fail('not a prefix');
    return { id, url, host: undefined, port: 0, address: undefined };
  }
  const parts = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(rest);
  if (parts === null) return fail('not HOST or HOST:PORT');
  const port = parts[3] === undefined ? 0 : Number(parts[3]);
  if (port > 65_535 || (parts[3] !== undefined && port === 0)) return fail('the port is not 1–65535');
  const host = parts[1] ?? parts[2]!;
  const address = IpAddress.parse(host);
  if (address === undefined && (parts[1] !== undefined || !HOST_NAME.test(host))) return fail('not a host name or address');
  return { id, url, host, port, address };
}

/** The backend's address for a packet to `destination`; undefined while the host name has none. */
export function backendAddress(
  backend: Backend | undefined,
  service: CompiledService,
  destination: SocketAddress,
): SocketAddress | undefined {
  if (service.entry.target === 'cidr') return destination;
  if (backend?.address === undefined) return undefined;
  return new SocketAddress(backend.address, backend.port === 0 ? destination.port : backend.port);
}
