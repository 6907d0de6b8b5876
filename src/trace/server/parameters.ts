/**
 * Query parameters of `GET /traceroute`: those of datadog-traceroute-server by its rules, a few of ours behind them.
 *
 * The first of a repeated parameter counts, unknown ones are ignored, and a number or boolean that is none is as if it were not
 * there; an empty text is a text.
 */
import type { TraceRequest } from '../request.js';
import { parseBoolean, parseInteger } from '../values.js';

export interface ServerRequest {
  /** Undefined or empty: not given. */
  readonly target: string | undefined;
  readonly request: TraceRequest;
  readonly skipPrivateHops: boolean;
  readonly extended: boolean;
}

const TEXTS = { protocol: 'protocol', 'tcp-method': 'tcpMethod' } as const;
const NUMBERS = {
  port: 'port',
  'traceroute-queries': 'queries',
  'e2e-queries': 'endToEndQueries',
  'max-ttl': 'maxTtl',
  timeout: 'timeoutMilliseconds',
  'min-ttl': 'minTtl',
  'e2e-interval': 'endToEndIntervalMilliseconds',
  repeats: 'repeats',
  'gap-limit': 'gapLimit',
} as const;
const BOOLEANS = {
  ipv6: 'ipv6',
  'reverse-dns': 'reverseDns',
  'source-public-ip': 'sourcePublicIp',
  'windows-driver': 'windowsDriver',
  paris: 'paris',
  pmtu: 'pmtu',
  asn: 'networks',
} as const;
/** Confidence of a discovery that is asked for without one. */
const CONFIDENCE = 0.95;

export function parseParameters(query: URLSearchParams): ServerRequest {
  const request: Record<string, unknown> = {};
  for (const [name, key] of Object.entries(TEXTS)) put(request, key, query.get(name));
  for (const [name, key] of Object.entries(NUMBERS)) put(request, key, integer(query.get(name)));
  for (const [name, key] of Object.entries(BOOLEANS)) put(request, key, boolean(query.get(name)));
  if (boolean(query.get('multipath')) === true) request['multipath'] = CONFIDENCE;
  return {
    target: query.get('target') ?? undefined,
    request: request as TraceRequest,
    skipPrivateHops: boolean(query.get('skip-private-hops')) ?? false,
    extended: boolean(query.get('extended')) ?? false,
  };
}

function put(request: Record<string, unknown>, key: string, value: unknown): void {
  if (value !== undefined && value !== null) request[key] = value;
}

function integer(text: string | null): number | undefined {
  return text === null ? undefined : parseInteger(text);
}

function boolean(text: string | null): boolean | undefined {
  return text === null ? undefined : parseBoolean(text);
}
