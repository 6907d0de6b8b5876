/**
 * What an answer says: how long it may be kept, whether it is a refusal for good, and the addresses it leads to.
 *
 *   question ─ CNAME ─► CNAME ─► A, AAAA          records of any other name are no part of the answer
 *
 * RFC 1034 §3.6.2 (aliases), RFC 2308 §5 (negative answers are kept as the SOA says), RFC 9520 (failures).
 */
import { IpAddress } from '../../base/address.js';
import { type Duration, Hours, type Instant, Seconds } from '../../base/time.js';
import { readU32 } from '../../wire/bytes.js';
import {
  CLASS_IN,
  DNS_HEADER,
  type DnsMessage,
  type DnsQuestion,
  type DnsRecord,
  RCODE,
  readName,
  TYPE,
} from './message.js';

/** Longest time an answer is kept (RFC 8767 §4 suggests days to a week as the most; a day is enough here). */
const TTL_MAX = Hours(24);
/** RFC 2308 §5: one to three hours are sensible. */
const NEGATIVE_MAX = Hours(1);
/** RFC 9520 §3.2: at least a second, and no more than five minutes. */
export const FAILURE_TTL = Seconds(5);
/** When nobody could be asked at all: the next question may find another network. */
export const SILENCE_TTL = Seconds(1);
/** Aliases followed. */
const CHAIN_MAX = 16;

export interface DnsAnswer {
  /** The message as it came, without OPT; undefined when nobody answered. */
  readonly bytes: Uint8Array | undefined;
  readonly rcode: number;
  readonly flags: number;
  /** Where the TTLs are that count down. */
  readonly ttlsAt: readonly number[];
  /** Where the asked name stands in full again, in the spelling it was asked in. */
  readonly namesAt: readonly number[];
  readonly receivedAt: Instant;
  /** May be kept this long; 0 = not at all. */
  readonly ttl: Duration;
  /** No such name, or no such record. */
  readonly negative: boolean;
  /** Holds for every type of the name: it does not exist, and no alias leads away from it. */
  readonly wholeName: boolean;
  readonly addresses: readonly IpAddress[];
  /** `stale`: a server's, after its time. */
  readonly from: 'server' | 'hook' | 'stale' | 'none';
}

/** The answer section's records that belong to the question, following aliases in whatever order they come. */
export function chainOf(question: DnsQuestion, records: readonly DnsRecord[], bytes: Uint8Array): DnsRecord[] {
  const chain: DnsRecord[] = [];
  const seen = new Set<string>();
  let name: string | undefined = question.name;
  for (let hops = 0; name !== undefined && hops <= CHAIN_MAX && !seen.has(name); hops++) {
    seen.add(name);
    let target: string | undefined;
    for (const record of records) {
      if (record.section !== 'answer' || record.name !== name || record.class !== question.class) continue;
      if (record.type === question.type) chain.push(record);
      else if (record.type === TYPE.CNAME) {
        chain.push(record);
        target = readName(bytes, record.dataAt)?.text;
      }
    }
    name = target;
  }
  return chain;
}

/** Judges a server's answer whose question has been checked. `bytes` is without OPT. */
export function judgeAnswer(now: Instant, question: DnsQuestion, message: DnsMessage, bytes: Uint8Array): DnsAnswer {
  const records = message.records.filter((record) => record.at < bytes.length);
  const chain = chainOf(question, records, bytes);
  const isData = chain.some((record) => record.type === question.type);
  const isFailure = message.rcode !== RCODE.NOERROR && message.rcode !== RCODE.NXDOMAIN;
  const negative = !isFailure && !isData;
  let ttl: number;
  if (isFailure) ttl = FAILURE_TTL;
  else if (negative) ttl = Math.min(negativeTtl(records, bytes), NEGATIVE_MAX, smallestTtl(chain));
  else ttl = Math.min(smallestTtl(chain), TTL_MAX);
  return {
    bytes,
    rcode: message.rcode,
    flags: message.flags,
    ttlsAt: records.map((record) => record.ttlAt),
    namesAt: chain
      .filter(
        ({ name, at, ttlAt }) => name === question.name && ttlAt - 4 - at === message.questionEnd - 4 - DNS_HEADER,
      )
      .map(({ at }) => at),
    receivedAt: now,
    ttl: ttl as Duration,
    negative,
    wholeName: message.rcode === RCODE.NXDOMAIN && chain.length === 0,
    addresses: chain.flatMap((record) => addressOf(record, bytes) ?? []),
    from: 'server',
  };
}

/** Nobody answered, or nobody may be asked. */
export function noAnswer(now: Instant, rcode: number, ttl: Duration): DnsAnswer {
  return {
    bytes: undefined,
    rcode,
    flags: 0,
    ttlsAt: [],
    namesAt: [],
    receivedAt: now,
    ttl,
    negative: false,
    wholeName: false,
    addresses: [],
    from: 'none',
  };
}

function smallestTtl(records: readonly DnsRecord[]): number {
  return records.reduce((least, record) => Math.min(least, Seconds(record.ttl)), Number.POSITIVE_INFINITY);
}

/** RFC 2308 §5: the smaller of the SOA's TTL and its MINIMUM; without a SOA the answer is not kept. */
function negativeTtl(records: readonly DnsRecord[], bytes: Uint8Array): number {
  const soa = records.find((record) => record.section === 'authority' && record.type === TYPE.SOA);
  if (soa === undefined || soa.dataLength < 22) return 0;
  const minimum = readU32(bytes, soa.dataAt + soa.dataLength - 4);
  return Seconds(Math.min(soa.ttl, minimum));
}

function addressOf(record: DnsRecord, bytes: Uint8Array): IpAddress | undefined {
  if (record.class !== CLASS_IN) return undefined;
  if (record.type === TYPE.A && record.dataLength === 4) return IpAddress.fromBytes(bytes, record.dataAt, 4);
  if (record.type === TYPE.AAAA && record.dataLength === 16) return IpAddress.fromBytes(bytes, record.dataAt, 16);
  return undefined;
}
