/**
 * The three ways to ask a gateway for a public UDP port, best first: PCP, NAT-PMP, UPnP-IGD. Each first shows whether the gateway speaks it,
 * without mapping anything.
 */
import { IpAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import {
  decodePmpReply,
  encodePmpAddressRequest,
  encodePmpMapRequest,
  PORT_MAPPING_PORT,
} from '../../tunnel/portmap/nat-pmp.js';
import { decodePcpReply, encodePcpAnnounce, encodePcpMap, PCP_NONCE_LENGTH } from '../../tunnel/portmap/pcp.js';
import type { PortmapProtocol } from '../../tunnel/portmap/protocols.js';
import { askGateway, type Gateway } from './gateway-socket.js';
import { findUpnp } from './upnp-method.js';

export interface Lease {
  readonly publicAddress: IpAddress;
  readonly publicPort: number;
  /** Seconds; what the gateway granted. */
  readonly lifetime: number;
}

/** One way, at one gateway, for one inside port. */
export interface MappingMethod {
  readonly protocol: PortmapProtocol;
  /** Undefined: it says nothing of it before a port is mapped. */
  readonly publicAddress: IpAddress | undefined;
  /**
   * Maps the inside port or renews the mapping; undefined: refused, or no answer.
   * @param wanted public port, which the gateway need not give.
   * @param lifetime seconds, > 0.
   */
  map(insidePort: number, wanted: number, lifetime: number): Promise<Lease | undefined>;
  /** Removes the mapping; resolves when the gateway has said so, or does not answer. */
  unmap(insidePort: number, lease: Lease): Promise<void>;
}

/** The best way that the gateway speaks; undefined: none. Takes up to three seconds. */
export async function findMethod(gateway: Gateway, entropy: Entropy): Promise<MappingMethod | undefined> {
  const upnp = findUpnp(gateway, entropy);
  const [pcp, pmp] = await Promise.all([findPcp(gateway, entropy), findPmp(gateway)]);
  return pcp ?? pmp ?? (await upnp);
}

async function findPcp(gateway: Gateway, entropy: Entropy): Promise<MappingMethod | undefined> {
  const speaks = await askGateway(gateway, PORT_MAPPING_PORT, encodePcpAnnounce(gateway.own), (bytes) => {
    const reply = decodePcpReply(bytes);
    if (reply !== undefined) return reply.kind === 'announced';
    // A gateway that speaks NAT-PMP only says so, RFC 6887 appendix A.
    return decodePmpReply(bytes) === undefined ? undefined : false;
  });
  if (speaks !== true) return undefined;
  const nonce = new Uint8Array(PCP_NONCE_LENGTH);
  entropy.fill(nonce);
  const ask = (insidePort: number, publicPort: number, publicAddress: IpAddress, lifetime: number) => {
    const request = encodePcpMap(gateway.own, { nonce, insidePort, publicPort, publicAddress }, lifetime);
    return askGateway(gateway, PORT_MAPPING_PORT, request, (bytes) => {
      const reply = decodePcpReply(bytes);
      if (reply?.kind !== 'mapped') return reply?.kind === 'refused' ? reply : undefined;
      const { mapping } = reply;
      const isOurs = mapping.insidePort === insidePort && mapping.nonce.every((byte, index) => byte === nonce[index]);
      return isOurs ? reply : undefined;
    });
  };
  let publicAddress = IpAddress.v4(0);
  return {
    protocol: 'pcp',
    publicAddress: undefined,
    map: async (insidePort, wanted, lifetime) => {
      const reply = await ask(insidePort, wanted, publicAddress, lifetime);
      if (reply?.kind !== 'mapped' || reply.lifetime === 0) return undefined;
      publicAddress = reply.mapping.publicAddress;
      return { publicAddress, publicPort: reply.mapping.publicPort, lifetime: reply.lifetime };
    },
    unmap: async (insidePort, lease) => {
      await ask(insidePort, lease.publicPort, lease.publicAddress, 0);
    },
  };
}

async function findPmp(gateway: Gateway): Promise<MappingMethod | undefined> {
  const askAddress = (): Promise<IpAddress | undefined> =>
    askGateway(gateway, PORT_MAPPING_PORT, encodePmpAddressRequest(), (bytes) => {
      const reply = decodePmpReply(bytes);
      return reply?.kind === 'address' ? { address: reply.address } : reply && { address: undefined };
    }).then((reply) => reply?.address);
  const publicAddress = await askAddress();
  if (publicAddress === undefined) return undefined;
  const ask = (insidePort: number, publicPort: number, lifetime: number) =>
    askGateway(gateway, PORT_MAPPING_PORT, encodePmpMapRequest(insidePort, publicPort, lifetime), (bytes) => {
      const reply = decodePmpReply(bytes);
      if (reply?.kind === 'mapped') return reply.insidePort === insidePort ? reply : undefined;
      return reply?.kind === 'refused' ? reply : undefined;
    });
  return {
    protocol: 'nat-pmp',
    publicAddress,
    map: async (insidePort, wanted, lifetime) => {
      const reply = await ask(insidePort, wanted, lifetime);
      if (reply?.kind !== 'mapped' || reply.lifetime === 0) return undefined;
      // The address may have changed since the last time.
      const address = await askAddress();
      return address && { publicAddress: address, publicPort: reply.publicPort, lifetime: reply.lifetime };
    },
    unmap: async (insidePort) => {
      await ask(insidePort, 0, 0);
    },
  };
}
