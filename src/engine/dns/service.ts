/**
 * The resolver as programs see it: queries that arrive for port 53 inside the tunnel are answered from here.
 *
 *   off      nothing is intercepted
 *   forward  queries to the internal address are answered, others go where they go
 *   hijack   every query is, wherever it was sent
 *   fake-ip  likewise, and A and AAAA get an address that stands for the name; HTTPS and SVCB, which would lead around it, get nothing
 *
 * What servers say passes byte by byte, but for the id, the spelling of the question, TTLs that count down, and the OPT record, which is
 * between neighbours. RFC 1035, RFC 2181, RFC 6891, RFC 9460 (HTTPS), RFC 8482 (not every question needs an answer).
 */
import { IpAddress, type SocketAddress } from '../../base/address.js';
import type { Counters } from '../../base/counters.js';
import { elapsed, Hours, Seconds, toSeconds } from '../../base/time.js';
import { readU32, writeU16, writeU32 } from '../../wire/bytes.js';
import { DNS_PORT } from '../flow-options.js';
import { hostName, isUnder } from '../names/host-name.js';
import type { NameTracker } from '../names/tracker.js';
import { type DnsAnswer, noAnswer } from './answer.js';
import type { FakeIpPool } from './fake-ip.js';
import {
  CLASS_IN,
  DNS_HEADER,
  type DnsMessage,
  EDNS_SIZE,
  FLAG_AD,
  FLAG_CD,
  FLAG_QR,
  FLAG_RA,
  FLAG_RD,
  FLAG_TC,
  isQuery,
  OPT_LENGTH,
  PLAIN_SIZE,
  RCODE,
  readMessage,
  TYPE,
  writeAnswer,
  writeName,
  writeOpt,
} from './message.js';
import type { Resolver } from './resolver.js';
import type { DnsCounter, DnsTimers } from './transport.js';

export const DNS_MODES = ['off', 'forward', 'hijack', 'fake-ip'] as const;
export type DnsMode = (typeof DNS_MODES)[number];

/** Short, because the mapping ends with the engine. */
const FAKE_TTL = Seconds(5);
/** Programs use an address longer than they were told to; it stands for this name until another gets it. */
const FAKE_NAME_TTL = Hours(24);
/** Kinds of question that are transfers, not questions. */
const TYPE_IXFR = 251;
const TYPE_AXFR = 252;
/** Names that exist on this link or machine only: an address that stands for them would hide them. */
const LOCAL_SUFFIXES = ['local', 'localhost', 'lan', 'home.arpa', 'in-addr.arpa', 'ip6.arpa'];

export interface DnsServiceParts {
  readonly mode: DnsMode;
  /** Addresses that are ours on the inside. */
  readonly addresses: readonly IpAddress[];
  readonly resolver: Resolver;
  readonly timers: DnsTimers;
  readonly counters: Counters<DnsCounter>;
  /** In mode fake-ip. */
  readonly pool?: FakeIpPool;
  readonly tracker?: NameTracker;
}

export class DnsService {
  readonly #parts: DnsServiceParts;

  constructor(parts: DnsServiceParts) {
    this.#parts = parts;
  }

  /** Whether a UDP or TCP flow to this address is ours to answer. */
  intercepts(destination: SocketAddress): boolean {
    const { mode, addresses } = this.#parts;
    if (mode === 'off' || destination.port !== DNS_PORT) return false;
    return mode !== 'forward' || addresses.some((ip) => ip.equals(destination.ip));
  }

  /**
   * Answers one query. What is no query gets no answer.
   * @param query is kept until the answer
   * @param overTcp no limit but the message format's
   * @param reply called at most once, perhaps inside this call
   */
  onQuery(query: Uint8Array, overTcp: boolean, reply: (answer: Uint8Array) => void): void {
    const message = readMessage(query);
    if (message === undefined || message.question === undefined || !isQuery(message)) {
      this.#parts.counters.add('dns_bad_queries');
      const refusal = refuseBroken(query);
      if (refusal !== undefined) reply(refusal);
      return;
    }
    const limit = overTcp ? 0xffff : message.edns === undefined ? PLAIN_SIZE : clampSize(message.edns.size);
    this.#answer(query, message, (answer) => reply(this.#write(query, message, answer, limit)));
  }

  #answer(query: Uint8Array, message: DnsMessage, done: (answer: DnsAnswer) => void): void {
    const { timers, resolver } = this.#parts;
    const { name, type, class: kind } = message.question!;
    if (kind !== CLASS_IN || type === TYPE_AXFR || type === TYPE_IXFR) {
      done(noAnswer(timers.now(), RCODE.REFUSED, Seconds(0)));
      return;
    }
    const fake = this.#fakeAnswer(query, message);
    if (fake !== undefined) {
      this.#parts.counters.add('dns_fake_ip_answers');
      done(fake);
      return;
    }
    const key = {
      name,
      type,
      dnssec: message.edns?.dnssec ?? false,
      checkingDisabled: (message.flags & FLAG_CD) !== 0,
    };
    resolver.query(key, done);
  }

  #fakeAnswer(query: Uint8Array, message: DnsMessage): DnsAnswer | undefined {
    const { mode, pool, timers, tracker, resolver } = this.#parts;
    if (mode !== 'fake-ip' || pool === undefined) return undefined;
    const now = timers.now();
    const { name, type } = message.question!;
    if (type === TYPE.PTR) return this.#fakePointer(query, message);
    const host = hostName(name);
    if (host === undefined || LOCAL_SUFFIXES.some((suffix) => isUnder(host, suffix))) return undefined;
    const nothing = { ...noAnswer(now, RCODE.NOERROR, FAKE_TTL), negative: true };
    if (type === TYPE.HTTPS || type === TYPE.SVCB) return nothing;
    if (type !== TYPE.A && type !== TYPE.AAAA) return undefined;
    const address = pool.addressOf(host, type === TYPE.A ? 4 : 6);
    tracker?.record(now, host, [address], FAKE_NAME_TTL, 'fake-ip');
    // Whoever dials it wants to know at once where it really is.
    resolver.query({ name: host, type, dnssec: false, checkingDisabled: false }, () => {});
    return { ...nothing, negative: false, addresses: [address] };
  }

  /** The name behind one of our addresses; of one that stands for nothing, that it has none. */
  #fakePointer(query: Uint8Array, message: DnsMessage): DnsAnswer | undefined {
    const { pool, timers } = this.#parts;
    const ip = pointerAddress(message.question!.name);
    if (ip === undefined || pool?.isFake(ip) !== true) return undefined;
    const now = timers.now();
    const host = pool.hostOf(ip);
    if (host === undefined) return noAnswer(now, RCODE.NXDOMAIN, FAKE_TTL);
    const record = { type: TYPE.PTR, ttl: toSeconds(FAKE_TTL), data: writeName(host)! };
    const bytes = writeAnswer(query, message.questionEnd, RCODE.NOERROR, [record]);
    return { ...noAnswer(now, RCODE.NOERROR, FAKE_TTL), bytes };
  }

  #write(query: Uint8Array, message: DnsMessage, answer: DnsAnswer, limit: number): Uint8Array {
    const end = message.questionEnd;
    const body = answer.bytes ?? writeAnswer(query, end, answer.rcode, this.#recordsOf(answer));
    const bytes = new Uint8Array(body.length + (message.edns === undefined ? 0 : OPT_LENGTH));
    bytes.set(body);
    // The same question, spelt as it was asked; and where its name stands in full again.
    bytes.set(query.subarray(DNS_HEADER, end), DNS_HEADER);
    for (const at of answer.namesAt) bytes.set(query.subarray(DNS_HEADER, end - 4), at);
    this.#countDown(bytes, answer);
    return finish(query, message, bytes, body.length, answer, limit);
  }

  #recordsOf(answer: DnsAnswer) {
    return answer.addresses.map((ip) => ({
      type: ip.isV4 ? TYPE.A : TYPE.AAAA,
      ttl: Math.ceil(toSeconds(answer.ttl)),
      data: ip.toBytes(),
    }));
  }

  #countDown(bytes: Uint8Array, answer: DnsAnswer): void {
    const age = Math.floor(toSeconds(elapsed(answer.receivedAt, this.#parts.timers.now())));
    if (age <= 0) return;
    for (const at of answer.ttlsAt) writeU32(bytes, at, Math.max(0, readU32(bytes, at) - age));
  }
}

/** Header and OPT of an answer whose records are in place; what is longer than `limit` loses them and says so. */
function finish(
  query: Uint8Array,
  message: DnsMessage,
  bytes: Uint8Array,
  bodyLength: number,
  answer: DnsAnswer,
  limit: number,
): Uint8Array {
  const { edns, flags, questionEnd } = message;
  const isCut = bytes.length > limit;
  const end = isCut ? questionEnd : bodyLength;
  bytes[0] = query[0]!;
  bytes[1] = query[1]!;
  const kept = (flags & (FLAG_RD | FLAG_CD)) | (answer.flags & FLAG_AD);
  writeU16(bytes, 2, FLAG_QR | FLAG_RA | kept | (isCut ? FLAG_TC : 0) | answer.rcode);
  if (isCut) {
    writeU32(bytes, 6, 0);
    writeU16(bytes, 10, 0);
  }
  if (edns !== undefined) {
    writeOpt(bytes, end, edns.dnssec);
    writeU16(bytes, 10, ((bytes[10]! << 8) | bytes[11]!) + 1);
  }
  return bytes.subarray(0, end + (edns === undefined ? 0 : OPT_LENGTH));
}

/** A header that says what is wrong with a query; undefined when there is nothing to answer to. */
function refuseBroken(query: Uint8Array): Uint8Array | undefined {
  if (query.length < DNS_HEADER || (query[2]! & 0x80) !== 0) return undefined;
  const bytes = new Uint8Array(DNS_HEADER);
  bytes.set(query.subarray(0, 2));
  const opcode = query[2]! & 0x78;
  const kept = (opcode << 8) | (((query[2]! << 8) | query[3]!) & FLAG_RD);
  writeU16(bytes, 2, FLAG_QR | FLAG_RA | kept | (opcode === 0 ? RCODE.FORMERR : RCODE.NOTIMP));
  return bytes;
}

/** The address in `4.3.2.1.in-addr.arpa` or its IPv6 sibling. RFC 1035 §3.5, RFC 3596 §2.5. */
function pointerAddress(name: string): IpAddress | undefined {
  const labels = name.split('.').reverse();
  if (labels.length === 6 && name.endsWith('.in-addr.arpa')) return IpAddress.parse(labels.slice(2).join('.'));
  if (labels.length !== 34 || !name.endsWith('.ip6.arpa')) return undefined;
  return IpAddress.parse(
    labels
      .slice(2)
      .join('')
      .replace(/(.{4})(?=.)/g, '$1:'),
  );
}

/** What fits the client, and every path; never less than without EDNS (RFC 6891 §6.2.3). */
function clampSize(size: number): number {
  return Math.min(Math.max(size, PLAIN_SIZE), EDNS_SIZE);
}
