/** Names, rules and the resolver as a host asks for them: texts and plain functions. */
import { IpAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import { Seconds, toSeconds } from '../../base/time.js';
import type { TlsClient } from '../../os/io.js';
import { FakeIpPool } from '../dns/fake-ip.js';
import type { HookAnswer } from '../dns/resolver.js';
import { DNS_MODES, type DnsMode } from '../dns/service.js';
import { STALE_TIME_MAX } from '../dns/stale.js';
import { checkTls } from '../dns/tls-dialer.js';
import { parseDnsServer } from '../dns/upstream.js';
import type { DnsParts } from '../traffic.js';

/** What the host's own resolver knows of a name: addresses as text, perhaps none; undefined = ask the servers. */
export type ResolverAnswer = { readonly addresses: readonly string[]; readonly ttlSeconds?: number } | undefined;

export interface EngineDns {
  readonly mode: DnsMode;
  /** `192.0.2.53`, `tcp://…`, with `tls` also `tls://…` and `https://…`; asked in order, through the first dialer. */
  readonly servers: readonly string[];
  /** TLS for the resolver's own streams: `nodeTls()` in a Node program. */
  readonly tls?: TlsClient;
  /** Addresses inside at which queries are answered (mode forward; the other modes answer everywhere). */
  readonly addresses?: readonly string[];
  /** When nobody answers, answers are given for so many seconds after their time (RFC 8767); 0 … 604,800, default 0. */
  readonly staleSeconds?: number;
  /** Asked first; answers now or later. What it answers is pinned: nobody else is asked. */
  readonly resolver?: (host: string, answer: (result: ResolverAnswer) => void) => void;
}

/**
 * @param onThrow the host's resolver has thrown.
 * @throws SallyportError ENGINE_SETTINGS, DNS_SERVER, DNS_TLS (caller).
 */
export function trafficOptions(dns: EngineDns | undefined, onThrow: (error: unknown) => void): DnsParts | undefined {
  if (dns === undefined) return undefined;
  const { mode, servers, addresses = [], resolver, tls, staleSeconds = 0 } = dns;
  if (!DNS_MODES.includes(mode)) throw invalid(`dns.mode ${String(mode)} is none of ${DNS_MODES.join(', ')}`);
  const own = addresses.map((text) => IpAddress.parse(text) ?? fail(`dns.addresses: ${text} is no address`));
  if (mode === 'forward' && own.length === 0) throw invalid('dns.mode forward wants dns.addresses');
  if (!(staleSeconds >= 0 && Seconds(staleSeconds) <= STALE_TIME_MAX)) {
    throw invalid(`dns.staleSeconds ${staleSeconds} is not from 0 to ${toSeconds(STALE_TIME_MAX)}`);
  }
  const parsed = servers.map(parseDnsServer);
  checkTls(parsed, tls);
  return {
    mode,
    servers: parsed,
    addresses: own,
    staleTime: Seconds(staleSeconds),
    ...(tls === undefined ? {} : { tls }),
    ...(mode === 'fake-ip' ? { pool: new FakeIpPool() } : {}),
    ...(resolver === undefined
      ? {}
      : {
          hook: (host, answer) => {
            try {
              resolver(host, (result) => answer(result && hookAnswer(result)));
            } catch (error) {
              onThrow(error);
              throw error;
            }
          },
        }),
  };
}

function hookAnswer({ addresses, ttlSeconds }: NonNullable<ResolverAnswer>): HookAnswer {
  const known = addresses.map((text) => IpAddress.parse(text)).filter((ip) => ip !== undefined);
  return { addresses: known, ...(ttlSeconds === undefined ? {} : { ttl: Seconds(ttlSeconds) }) };
}

function fail(why: string): never {
  throw invalid(why);
}

const invalid = (message: string): SallyportError => new SallyportError('caller', 'ENGINE_SETTINGS', message);
