/**
 * What is asked of a trace, its defaults and its limits: everything is checked before the first packet leaves and before any name
 * is looked up.
 */
import { IpAddress } from '../base/address.js';
import { Millis } from '../base/time.js';
import { traceError } from './error.js';
import { checkPort, parseTarget, type Target } from './target.js';
import type { TcpMethod, TraceOptions, TracePrivilege, TraceProtocol } from './types.js';

const PROTOCOLS: readonly TraceProtocol[] = ['udp', 'tcp', 'icmp', 'quic'];
const TCP_METHODS: readonly TcpMethod[] = ['syn', 'sack', 'prefer_sack', 'syn_socket'];
const PRIVILEGES: readonly TracePrivilege[] = ['auto', 'raw', 'unprivileged'];

/** The defaults of datadog-traceroute. */
export const DEFAULTS = {
  protocol: 'udp',
  tcpMethod: 'syn',
  port: 33_434,
  queries: 3,
  endToEndQueries: 50,
  maxTtl: 30,
  timeoutMilliseconds: 3_000,
} as const;

/** Where QUIC listens when nobody says otherwise (RFC 9114 §3.1). */
const QUIC_PORT = 443;
/** Fixed in datadog-traceroute too; SACK probes share one connection and cost the target nothing. */
const SEND_DELAY = Millis(50);
const SACK_SEND_DELAY = Millis(10);

/** Runs side by side; each has sockets of its own. */
const MAX_QUERIES = 100;
/** At the shortest interval this takes 100 s. */
const MAX_END_TO_END = 10_000;
const MAX_REPEATS = 100;
/** An hour: longer waits are mistakes. */
const MAX_MILLISECONDS = 3_600_000;
/** An IPv4 packet's total length is 16 bits (RFC 791); the smallest that holds every probe's headers. */
const MAX_PACKET = 65_535;
const MIN_PACKET = 28;
/** SO_MARK takes 32 bits. */
const MAX_MARK = 0xffff_ffff;

/** Everything but the target is optional. Times are milliseconds. */
export interface TraceRequest {
  readonly protocol?: string;
  readonly tcpMethod?: string;
  /** Wins only when the target names no port. 0: the default. */
  readonly port?: number;
  /** Concurrent runs; 0 or less: none. */
  readonly queries?: number;
  /** End-to-end probes; 0 or less: none. */
  readonly endToEndQueries?: number;
  /** Between two end-to-end probes; absent: all are sent within a second. */
  readonly endToEndIntervalMilliseconds?: number;
  readonly minTtl?: number;
  readonly maxTtl?: number;
  readonly timeoutMilliseconds?: number;
  readonly sendDelayMilliseconds?: number;
  readonly repeats?: number;
  readonly paris?: boolean;
  /** Names are resolved to IPv6 addresses; a literal address is taken as it is. */
  readonly ipv6?: boolean;
  readonly source?: string;
  readonly device?: string;
  readonly mark?: number;
  readonly sourcePort?: number;
  readonly tos?: number;
  readonly packetSize?: number;
  readonly gapLimit?: number;
  readonly rate?: number;
  readonly pmtu?: boolean;
  /** Confidence of multipath discovery, above 0 and below 1. */
  readonly multipath?: number;
  readonly privilege?: string;
  readonly windowsDriver?: boolean;
  readonly reverseDns?: boolean;
  /** Autonomous systems of public addresses, by DNS. */
  readonly networks?: boolean;
  /** How long names and networks are waited for when all else is known; absent: until each is there or given up (5 s). */
  readonly lookupPatienceMilliseconds?: number;
  readonly sourcePublicIp?: boolean;
}

/** A request with nothing left to doubt but the target's address. */
export interface CheckedRequest {
  readonly target: Target;
  /** As asked for beside the target. */
  readonly port: number;
  readonly queries: number;
  readonly endToEndQueries: number;
  readonly endToEndIntervalMilliseconds: number | undefined;
  readonly ipv6: boolean;
  readonly reverseDns: boolean;
  readonly networks: boolean;
  readonly lookupPatienceMilliseconds: number | undefined;
  readonly sourcePublicIp: boolean;
  readonly options: Omit<TraceOptions, 'destination'>;
}

/** @throws SallyportError INVALID_REQUEST; UNKNOWN for a TCP method nobody knows, as datadog-traceroute has it. */
export function checkRequest(text: string, request: TraceRequest): CheckedRequest {
  const target = parseTarget(text);
  const protocol = request.protocol ?? DEFAULTS.protocol;
  if (!isOneOf(PROTOCOLS, protocol)) throw invalid(`unknown protocol: "${protocol}"`);
  const tcpMethod = request.tcpMethod || DEFAULTS.tcpMethod;
  if (!isOneOf(TCP_METHODS, tcpMethod)) throw traceError('UNKNOWN', `unexpected TCPMethod: ${tcpMethod}`);
  const privilege = request.privilege ?? 'auto';
  if (!isOneOf(PRIVILEGES, privilege)) throw invalid(`unknown privilege: "${privilege}"`);
  const port = checkPort(request.port || (protocol === 'quic' ? QUIC_PORT : DEFAULTS.port));
  const { multipath } = request;
  if (multipath !== undefined && !(multipath > 0 && multipath < 1)) throw invalid(`invalid confidence: ${multipath}`);
  const sack = protocol === 'tcp' && (tcpMethod === 'sack' || tcpMethod === 'prefer_sack');
  const defaultDelay = sack ? SACK_SEND_DELAY : SEND_DELAY;
  const delay = whole('send delay', request.sendDelayMilliseconds, 0, MAX_MILLISECONDS);
  const device = request.device ?? target.zone;
  return {
    target,
    port,
    queries: count('traceroute queries', request.queries ?? DEFAULTS.queries, MAX_QUERIES),
    endToEndQueries: count('e2e queries', request.endToEndQueries ?? DEFAULTS.endToEndQueries, MAX_END_TO_END),
    endToEndIntervalMilliseconds: whole('e2e interval', request.endToEndIntervalMilliseconds, 1, MAX_MILLISECONDS),
    ipv6: request.ipv6 ?? false,
    reverseDns: request.reverseDns ?? false,
    networks: request.networks ?? false,
    lookupPatienceMilliseconds: whole('look-up patience', request.lookupPatienceMilliseconds, 0, MAX_MILLISECONDS),
    sourcePublicIp: request.sourcePublicIp ?? false,
    options: {
      protocol,
      tcpMethod,
      port: target.port ?? port,
      ...ttls(request),
      timeout: Millis(
        whole('timeout', request.timeoutMilliseconds, 1, MAX_MILLISECONDS) ?? DEFAULTS.timeoutMilliseconds,
      ),
      sendDelay: delay === undefined ? defaultDelay : Millis(delay),
      repeats: whole('repeats', request.repeats, 1, MAX_REPEATS) ?? 1,
      paris: request.paris ?? false,
      ...optional('source', parseSource(request.source)),
      ...optional('device', device),
      ...optional('mark', whole('mark', request.mark, 0, MAX_MARK)),
      ...optional('sourcePort', request.sourcePort === undefined ? undefined : checkPort(request.sourcePort)),
      tos: whole('TOS', request.tos, 0, 255) ?? 0,
      ...optional('packetSize', whole('packet size', request.packetSize, MIN_PACKET, MAX_PACKET)),
      gapLimit: whole('gap limit', request.gapLimit, 0, 255) ?? 0,
      rate: whole('rate', request.rate, 0, MAX_MARK) ?? 0,
      pmtu: request.pmtu ?? false,
      ...optional('multipath', multipath === undefined ? undefined : { confidence: multipath, maxFlows: MAX_FLOWS }),
      privilege,
      windowsDriver: request.windowsDriver ?? false,
    },
  };
}

/** Flows of one multipath discovery: a bound on its probes that leaves room for dozens of next hops. */
const MAX_FLOWS = 512;

function ttls(request: TraceRequest): { readonly minTtl: number; readonly maxTtl: number } {
  const minTtl = request.minTtl ?? 1;
  if (!(minTtl >= 1)) throw invalid('min TTL must be at least 1');
  const maxTtl = whole('max TTL', request.maxTtl, 1, 255) ?? DEFAULTS.maxTtl;
  if (!Number.isInteger(minTtl) || minTtl > maxTtl) throw invalid(`invalid min TTL: ${minTtl} (1 to ${maxTtl})`);
  return { minTtl, maxTtl };
}

function parseSource(text: string | undefined): IpAddress | undefined {
  if (text === undefined) return undefined;
  const ip = IpAddress.parse(text);
  if (ip === undefined) throw invalid(`invalid source address: ${JSON.stringify(text)}`);
  return ip;
}

/** None when not above 0. */
function count(name: string, value: number, max: number): number {
  return value <= 0 ? 0 : whole(name, value, 1, max)!;
}

function whole(name: string, value: number | undefined, min: number, max: number): number | undefined {
  if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return value;
  throw invalid(`invalid ${name}: ${value} (${min} to ${max})`);
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}

function isOneOf<T extends string>(all: readonly T[], one: string): one is T {
  return (all as readonly string[]).includes(one);
}

function invalid(message: string): Error {
  return traceError('INVALID_REQUEST', message);
}
