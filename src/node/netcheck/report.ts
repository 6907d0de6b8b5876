/**
 * What `netcheck` finds out, as one report: whether UDP works, the NAT of each address family, port mapping, and the relays' latencies.
 * Texts for people are the command's; the keys are stable.
 */
import type { IpAddress, SocketAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import { type Duration, toMillis } from '../../base/time.js';
import type { NatClass, NatFiltering, NatMapping, NatName } from '../../tunnel/nat-class.js';
import type { PortmapProtocol } from '../../tunnel/portmap/protocols.js';
import { type NatEase, natEase } from '../../tunnel/punch-plan.js';
import { keepAliveSeconds } from '../keep-alive.js';
import { type MappingLifetime, measureLifetime } from './lifetime.js';
import { type Observation, observeNat } from './observe.js';

export interface FamilyReport {
  /** False: no route, or nothing came back. */
  readonly works: boolean;
  /** ADDRESS:PORT that the relay sees. */
  readonly publicAddress: string | undefined;
  readonly mapping: NatMapping;
  readonly mappingIsSure: boolean;
  readonly filtering: NatFiltering;
  readonly preservesPort: boolean | undefined;
  readonly hairpin: boolean | undefined;
  readonly name: NatName;
  /** How easily a peer gets through (docs/nat.md). */
  readonly ease: NatEase;
  /** Measured only when asked for. */
  readonly lifetime: MappingLifetime | undefined;
  /** With the lifetime: seconds of silence after which a node's relay connections, and its direct links, send something. */
  readonly keepAliveSeconds: { readonly relay: number; readonly direct: number } | undefined;
}

export interface RelayReport {
  readonly address: string;
  /** Undefined: it does not answer. */
  readonly rttMilliseconds: number | undefined;
}

export interface NetcheckReport {
  readonly udp: boolean;
  /** Undefined: the relays have no address of this family, or this machine no route to it. */
  readonly ipv4: FamilyReport | undefined;
  readonly ipv6: FamilyReport | undefined;
  readonly relays: readonly RelayReport[];
  /** False: mapping and filtering cannot be told. */
  readonly relayHasSecondPort: boolean;
  /** The best way that the IPv4 gateway maps ports by; undefined: none, or no gateway. Nothing is mapped by asking. */
  readonly portMapping: PortMappingReport | undefined;
}

export interface PortMappingReport {
  readonly protocol: PortmapProtocol;
  /** As the gateway says before anything is mapped; PCP says nothing. */
  readonly publicAddress: string | undefined;
}

export interface NetcheckOptions {
  /** Of all families; none is an empty report. */
  readonly relays: readonly SocketAddress[];
  readonly entropy: Entropy;
  /** Spans in seconds to measure the lifetime of mappings by; undefined: not measured. */
  readonly lifetimeSpans: readonly number[] | undefined;
  /** IPv4 address of the default route's router. */
  readonly gateway: IpAddress | undefined;
  /** True: it does not keep the process alive. */
  readonly isBackground: boolean;
}

export async function netcheck(options: NetcheckOptions): Promise<NetcheckReport> {
  const [four, six, portMapping] = await Promise.all([
    checkFamily(options, true),
    checkFamily(options, false),
    checkPortMapping(options),
  ]);
  const seen = [four, six].filter((one) => one !== undefined);
  return {
    udp: seen.some(({ report }) => report.works),
    ipv4: four?.report,
    ipv6: six?.report,
    relays: seen.flatMap(({ observation }) =>
      observation.relays.map(({ address, rtt }) => ({ address: address.toString(), rttMilliseconds: millis(rtt) })),
    ),
    relayHasSecondPort: seen.some(({ observation }) => observation.hasOtherPort),
    portMapping,
  };
}

async function checkPortMapping({ gateway: at, entropy }: NetcheckOptions): Promise<PortMappingReport | undefined> {
  if (at === undefined) return undefined;
  const [{ gatewayAt }, { findMethod }] = await Promise.all([
    import('../portmap/gateway-socket.js'),
    import('../portmap/methods.js'),
  ]);
  const gateway = await gatewayAt(at);
  const method = gateway === undefined ? undefined : await findMethod(gateway, entropy);
  return method && { protocol: method.protocol, publicAddress: method.publicAddress?.toString() };
}

async function checkFamily(
  { relays, entropy, lifetimeSpans, isBackground }: NetcheckOptions,
  isV4: boolean,
): Promise<{ readonly report: FamilyReport; readonly observation: Observation } | undefined> {
  const own = relays.filter((one) => one.ip.isV4 === isV4);
  const observation = own.length === 0 ? undefined : await observeNat(own, entropy, isBackground);
  if (observation === undefined) return undefined;
  const { nat } = observation;
  const works = nat.publicAddress !== undefined;
  const answering = observation.relays.find(({ rtt }) => rtt !== undefined)?.address;
  const lifetime =
    lifetimeSpans === undefined || answering === undefined || isStateless(nat)
      ? undefined
      : await measureLifetime(answering, entropy, lifetimeSpans, isBackground);
  const { mapping, mappingIsSure, filtering, preservesPort, hairpin, name } = nat;
  const report: FamilyReport = {
    works,
    publicAddress: nat.publicAddress?.toString(),
    mapping,
    mappingIsSure,
    filtering,
    preservesPort,
    hairpin,
    name,
    ease: natEase(nat),
    lifetime,
    keepAliveSeconds: lifetime && keepAliveSeconds(lifetime.atLeast),
  };
  return { report, observation };
}

/** Nothing is remembered of who has sent, so nothing can be forgotten; a firewall without translation remembers. */
function isStateless({ mapping, filtering }: NatClass): boolean {
  return mapping === 'none' && filtering !== 'port-dependent';
}

function millis(rtt: Duration | undefined): number | undefined {
  return rtt === undefined ? undefined : Math.round(toMillis(rtt) * 100) / 100;
}
