/**
 * Where a connector's services really are. Host names are resolved by the driver, now and then; the packet thread only ever
 * sees addresses.
 */
import { IpAddress, SocketAddress } from '../base/address.js';
import { parseBackend } from '../policy/backend.js';
import type { CompiledService } from '../policy/view.js';

export interface ServiceBackend {
  readonly id: string;
  readonly url: string;
  /** A host name or address; undefined for a prefix, whose addresses are themselves the backends. */
  readonly host: string | undefined;
  /** 0 = the port the client asked for. */
  readonly port: number;
  /** The host's address; undefined until resolved. */
  address: IpAddress | undefined;
}

/** @throws SallyportError SERVICE_SPEC (caller). */
export function serviceBackend(id: string, url: string): ServiceBackend {
  const { target, host, port } = parseBackend(url);
  const isHost = target !== 'cidr';
  return {
    id,
    url,
    host: isHost ? host : undefined,
    port: port ?? 0,
    address: isHost ? IpAddress.parse(host) : undefined,
  };
}

/** The backend's address for a packet to `destination`; undefined while the host name has none. */
export function backendAddress(
  backend: ServiceBackend,
  service: CompiledService,
  destination: SocketAddress,
): SocketAddress | undefined {
  if (service.entry.target === 'cidr') return destination;
  if (backend.address === undefined) return undefined;
  return new SocketAddress(backend.address, backend.port === 0 ? destination.port : backend.port);
}
