/**
 * A result in datadog-traceroute's JSON form: the same keys in the same order, `""` for a silent hop's address, `null` for a list
 * nobody asked to fill, `reverse_dns` only where there is one, and strings escaped as Go's encoder does.
 *
 *   {test_run_id, protocol, source {public_ip}, destination {hostname, port},
 *    traceroute {runs [{run_id, source, destination, hops [{ttl, ip_address, rtt, reachable}]}] | null, hop_count},
 *    e2e_probe {rtts | null, packets_sent, packets_received, packet_loss_percentage, jitter, rtt {avg, min, max}}}
 *
 * What that form has no place for comes behind its keys, and only when asked for (`extended`).
 */
import { type IpAddress, Prefix } from '../base/address.js';
import { type EndToEnd, type NamedRun, namesOf, type TraceResult } from './result.js';
import { endToEndStatistics, hopCount, toNanosecond } from './statistics.js';
import type { Hop, HopReply } from './types.js';

/** RFC 1918 and RFC 4193; not loopback, link-local or carrier-grade NAT addresses. */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7'].map((text) => Prefix.parse(text)!);

export interface CompatibleOptions {
  /** Blank hops with private addresses; the destination too. */
  readonly skipPrivateHops: boolean;
  readonly extended: boolean;
}

export interface CompatibleHop {
  readonly ttl: number;
  readonly ip_address: string;
  readonly rtt: number;
  readonly reachable: boolean;
  readonly reverse_dns?: readonly string[];
  readonly [extension: string]: unknown;
}

export interface CompatibleRun {
  readonly run_id: string;
  readonly source: { readonly ip_address: string; readonly port: number };
  readonly destination: {
    readonly ip_address: string;
    readonly port: number;
    readonly reverse_dns?: readonly string[];
  };
  readonly hops: readonly CompatibleHop[];
  readonly [extension: string]: unknown;
}

export interface CompatibleResult {
  readonly test_run_id: string;
  readonly protocol: string;
  readonly source: { readonly public_ip: string };
  readonly destination: { readonly hostname: string; readonly port: number };
  readonly traceroute: {
    readonly runs: readonly CompatibleRun[] | null;
    readonly hop_count: { readonly avg: number; readonly min: number; readonly max: number };
  };
  readonly e2e_probe: {
    readonly rtts: readonly number[] | null;
    readonly packets_sent: number;
    readonly packets_received: number;
    readonly packet_loss_percentage: number;
    readonly jitter: number;
    readonly rtt: { readonly avg: number; readonly min: number; readonly max: number };
    readonly [extension: string]: unknown;
  };
}

export function toCompatible(result: TraceResult, options: CompatibleOptions): CompatibleResult {
  return {
    test_run_id: result.id,
    protocol: result.protocol,
    source: { public_ip: result.publicIp },
    destination: { hostname: result.hostname, port: result.port },
    traceroute: {
      runs: orNull(result.runs.map((one) => compatibleRun(one, result, options))),
      hop_count: hopCount(result.runs.map(({ run }) => run.hops)),
    },
    e2e_probe: compatibleEnd(result.endToEnd, options),
  };
}

/** Private in the sense of `--skip-private-hops`. */
export function isPrivate(ip: IpAddress): boolean {
  return PRIVATE.some((prefix) => prefix.contains(ip));
}

/** The answer a hop is known by: the destination's own, else the first. */
export function hopReply(hop: Hop): HopReply | undefined {
  return hop.replies.find((reply) => reply.isDestination) ?? hop.replies[0];
}

/** JSON with the characters Go's encoder escapes beside JSON's own. @param indent spaces; 0: one line. */
export function encodeJson(value: unknown, indent = 0): string {
  return JSON.stringify(value, undefined, indent).replace(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function compatibleRun({ id, run }: NamedRun, result: TraceResult, options: CompatibleOptions): CompatibleRun {
  return {
    run_id: id,
    source: { ip_address: run.source.ip.toString(), port: run.source.port },
    destination: {
      ip_address: run.destination.ip.toString(),
      port: run.destination.port,
      ...reverseDns(result, run.destination.ip),
    },
    hops: run.hops.map((hop) => compatibleHop(hop, result, options)),
    ...(options.extended && {
      destination_reached: run.reached,
      end_reason: run.reason,
      privilege: run.privilege,
      ...(run.tcpMethod !== undefined && { tcp_method: run.tcpMethod }),
    }),
  };
}

function compatibleHop(hop: Hop, result: TraceResult, options: CompatibleOptions): CompatibleHop {
  const reply = hopReply(hop);
  if (reply === undefined || (options.skipPrivateHops && isPrivate(reply.from))) {
    return { ttl: hop.ttl, ip_address: '', rtt: 0, reachable: false };
  }
  return {
    ttl: hop.ttl,
    ip_address: reply.from.toString(),
    rtt: toNanosecond(reply.rtt),
    reachable: true,
    ...reverseDns(result, reply.from),
    ...(options.extended && extensions(hop, reply, result)),
  };
}

function reverseDns(result: TraceResult, ip: IpAddress): { reverse_dns?: readonly string[] } {
  const names = namesOf(result, ip);
  return names.length === 0 ? {} : { reverse_dns: names };
}

function extensions(hop: Hop, reply: HopReply, result: TraceResult): Record<string, unknown> {
  const network = result.networks.get(reply.from.toString());
  return {
    kind: reply.kind,
    destination: reply.isDestination,
    sent: hop.sent,
    rtts: hop.replies.map((one) => toNanosecond(one.rtt)),
    ...(hop.rateLimited && { rate_limited: true }),
    ...(reply.icmp !== undefined && { icmp_type: reply.icmp.type, icmp_code: reply.icmp.code }),
    ...(reply.replyTtl !== undefined && { reply_ttl: reply.replyTtl }),
    ...(reply.quotedTtl !== undefined && { quoted_ttl: reply.quotedTtl }),
    ...(reply.nat && { nat: true }),
    ...(hop.mtu !== undefined && { mtu: hop.mtu }),
    ...(reply.extensions !== undefined && {
      mpls: reply.extensions.mpls.map((one) => ({
        label: one.label,
        traffic_class: one.trafficClass,
        bottom: one.bottom,
        ttl: one.ttl,
      })),
      interfaces: reply.extensions.interfaces.map((one) => ({ ...one, address: one.address?.toString() })),
    }),
    ...(network !== undefined && {
      asn: network.asn,
      as_name: network.name,
      as_prefix: network.prefix,
      country: network.country,
    }),
  };
}

function compatibleEnd(end: EndToEnd, options: CompatibleOptions): CompatibleResult['e2e_probe'] {
  const rtts = end.rtts.map(toNanosecond);
  const { sent, received, loss, jitter, avg, min, max } = endToEndStatistics(rtts);
  return {
    rtts: orNull(rtts),
    packets_sent: sent,
    packets_received: received,
    packet_loss_percentage: loss,
    jitter,
    rtt: { avg, min, max },
    ...(options.extended && { method: end.method }),
  };
}

/** A Go slice nobody appended to encodes as null. */
function orNull<T>(list: readonly T[]): readonly T[] | null {
  return list.length === 0 ? null : list;
}
