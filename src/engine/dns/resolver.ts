/**
 * A stub resolver over the host's dialers:
 *
 *   question ─► hook (addresses only) ─► cache ─► joined to the same question, if one is out ─► servers in order
 *                                                          nobody answers ─► what was true until lately, where wanted (stale.ts)
 *
 * The hook's answers are pinned: nobody else is asked, and nothing of them is cached here. Servers that did not answer are asked
 * after the others. What is learnt goes to the name tracker. RFC 1034 §5.3.1, RFC 2308, RFC 9520.
 */
import type { IpAddress } from '../../base/address.js';
import type { Counters } from '../../base/counters.js';
import type { Entropy } from '../../base/entropy.js';
import { type Duration, elapsed, later, Seconds } from '../../base/time.js';
import { Histogram } from '../histogram.js';
import { hostName } from '../names/host-name.js';
import type { NameSource, NameTracker } from '../names/tracker.js';
import { type DnsAnswer, judgeAnswer, noAnswer, SILENCE_TTL } from './answer.js';
import { DnsCache, type DnsKey, keyText } from './cache.js';
import { Inquiry, type InquiryResult } from './inquiry.js';
import { CLASS_IN, RCODE, TYPE, withoutOpt, writeName } from './message.js';
import { ServerState } from './server-state.js';
import { STALE_AFTER } from './stale.js';
import type { DnsCounter, DnsDialer, DnsTimers } from './transport.js';
import type { DnsServer } from './upstream.js';

/** Questions out at once; one more is refused. */
const QUESTIONS_MAX = 512;
/** Askers of one question that wait for its answer. */
const WAITING_MAX = 256;
/** A hook that does not answer is passed over. */
const HOOK_TIME = Seconds(5);
/** Of latencies, microseconds: a server beside this machine up to the longest question. */
export const LATENCY_BOUNDS = [
  1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1e6, 2e6, 5e6, 10e6,
] as const;
/** What a hook's answer without a time to live gets. */
const HOOK_TTL = Seconds(60);

/** What the host knows about a name: its addresses, perhaps none; undefined = ask the servers. */
export type HookAnswer = { readonly addresses: readonly IpAddress[]; readonly ttl?: Duration } | undefined;
/** May answer later; may be called for the same host again. */
export type DnsHook = (host: string, answer: (result: HookAnswer) => void) => void;

export interface ResolverParts {
  readonly dialer: DnsDialer;
  readonly timers: DnsTimers;
  readonly entropy: Entropy;
  readonly counters: Counters<DnsCounter>;
  readonly servers: readonly DnsServer[];
  readonly hook?: DnsHook;
  readonly tracker?: NameTracker;
  /** Default 4096. */
  readonly cacheEntries?: number;
  /** How long data is given after its time when nobody answers; 0 = not at all, the default. */
  readonly staleTime?: Duration;
}

export type AnswerDone = (answer: DnsAnswer) => void;

interface Question {
  readonly waiting: AnswerDone[];
  inquiry: Inquiry | undefined;
  /** Forgets that its askers do not wait for longer than stale data. */
  stopStale: () => void;
}

export class Resolver {
  /** How long questions took that went to servers, answered or not. */
  readonly latency = new Histogram(LATENCY_BOUNDS);
  readonly #parts: ResolverParts;
  readonly #cache: DnsCache;
  readonly #servers: readonly ServerState[];
  readonly #questions = new Map<string, Question>();
  #closed = false;

  constructor(parts: ResolverParts) {
    this.#parts = parts;
    this.#cache = new DnsCache(parts.cacheEntries, parts.staleTime);
    this.#servers = parts.servers.map((server) => new ServerState(server, parts.dialer, parts));
  }

  /** Questions that are out. */
  get outstanding(): number {
    return this.#questions.size;
  }

  get cached(): number {
    return this.#cache.size;
  }

  /** The servers, those that answer first. */
  get servers(): readonly ServerState[] {
    const now = this.#parts.timers.now();
    const isBackingOff = (server: ServerState): number => (server.isBackingOff(now) ? 1 : 0);
    return [...this.#servers].sort((a, b) => isBackingOff(a) - isBackingOff(b));
  }

  /** Answers a question; `done` is called once, perhaps inside this call. */
  query(key: DnsKey, done: AnswerDone): void {
    const { counters, hook } = this.#parts;
    counters.add('dns_queries');
    const host = hook === undefined || !isAddressType(key.type) ? undefined : hostName(key.name);
    if (hook === undefined || host === undefined) this.#fromCache(key, done);
    else this.#askHook(hook, host, key, done);
  }

  /**
   * The addresses of a host, of both families unless told. Empty: it has none, or nobody answered.
   * @param done called once, perhaps inside this call
   */
  lookup(host: string, done: (addresses: readonly IpAddress[]) => void, family?: 4 | 6): void {
    const name = hostName(host);
    if (name === undefined) {
      done([]);
      return;
    }
    const types = family === undefined ? [TYPE.AAAA, TYPE.A] : [family === 4 ? TYPE.A : TYPE.AAAA];
    const found: (readonly IpAddress[])[] = [];
    let left = types.length;
    types.forEach((type, i) => {
      this.query({ name, type, dnssec: false, checkingDisabled: false }, (answer) => {
        found[i] = answer.addresses;
        if (--left === 0) done(found.flat());
      });
    });
  }

  /** The addresses of a host that are known now; empty when nothing is. */
  known(host: string, family: 4 | 6): readonly IpAddress[] {
    const type = family === 4 ? TYPE.A : TYPE.AAAA;
    const key = { name: host, type, dnssec: false, checkingDisabled: false };
    return this.#cache.get(this.#parts.timers.now(), key)?.addresses ?? [];
  }

  /** The network has changed: connections end, failures and absences are forgotten. */
  pathChanged(): void {
    this.#cache.onPathChange(this.#parts.timers.now());
    for (const server of this.#servers) server.reset();
  }

  /** Every question that is out fails. */
  close(): void {
    this.#closed = true;
    const questions = [...this.#questions.values()];
    this.#questions.clear();
    for (const { inquiry, stopStale } of questions) {
      inquiry?.close();
      stopStale();
    }
    for (const server of this.#servers) server.reset();
    for (const { waiting } of questions) {
      for (const done of waiting) done(noAnswer(this.#parts.timers.now(), RCODE.SERVFAIL, Seconds(0)));
    }
  }

  #askHook(hook: DnsHook, host: string, key: DnsKey, done: AnswerDone): void {
    const { timers, counters } = this.#parts;
    let over = false;
    let stopTimer = (): void => {};
    const finish = (result: HookAnswer): void => {
      if (over) return;
      over = true;
      stopTimer();
      if (result === undefined) this.#fromCache(key, done);
      else done(this.#pinned(host, key, result));
    };
    const fail = (): void => {
      counters.add('dns_hook_errors');
      finish(undefined);
    };
    try {
      hook(host, finish);
    } catch {
      fail();
    }
    if (!over) stopTimer = timers.at(later(timers.now(), HOOK_TIME), fail);
  }

  /** The hook's addresses as an answer. Other types of the name then have nothing: they would lead around the pin. */
  #pinned(host: string, key: DnsKey, result: NonNullable<HookAnswer>): DnsAnswer {
    const now = this.#parts.timers.now();
    const ttl = result.ttl ?? HOOK_TTL;
    this.#parts.counters.add('dns_hook_answers');
    this.#learn(host, result.addresses, ttl, 'hook');
    const addresses = result.addresses.filter((ip) => key.type === (ip.isV4 ? TYPE.A : TYPE.AAAA));
    return { ...noAnswer(now, RCODE.NOERROR, ttl), negative: addresses.length === 0, addresses, from: 'hook' };
  }

  #fromCache(key: DnsKey, done: AnswerDone): void {
    const { timers, counters } = this.#parts;
    const now = timers.now();
    const cached = this.#cache.get(now, key);
    if (cached !== undefined) {
      if (cached.from === 'stale') this.#onStale(key, cached);
      else counters.add('dns_cache_hits');
      done(cached);
      return;
    }
    const text = keyText(key);
    const same = this.#questions.get(text);
    if (same !== undefined && same.waiting.length < WAITING_MAX) {
      counters.add('dns_joined');
      same.waiting.push(done);
      return;
    }
    if (
      this.#closed ||
      same !== undefined ||
      this.#questions.size >= QUESTIONS_MAX ||
      writeName(key.name) === undefined
    ) {
      counters.add('dns_overload');
      done(noAnswer(now, RCODE.SERVFAIL, Seconds(0)));
      return;
    }
    const question: Question = { waiting: [done], inquiry: undefined, stopStale: () => {} };
    this.#questions.set(text, question);
    question.inquiry = new Inquiry({ ...this.#parts, servers: this.servers }, key, (result) => {
      this.#questions.delete(text);
      question.stopStale();
      this.latency.add(elapsed(now, timers.now()));
      const answer = this.#judge(key, result, question.waiting.length);
      for (const waiting of question.waiting.splice(0)) waiting(answer);
    });
    if (!this.#cache.hasStale(now, key)) return;
    question.stopStale = timers.at(later(now, STALE_AFTER), () => {
      const stale = this.#cache.stale(timers.now(), key);
      if (stale === undefined) return;
      // The inquiry goes on: what it finds is for those who ask later.
      const waiting = question.waiting.splice(0);
      this.#onStale(key, stale, waiting.length);
      for (const tell of waiting) tell(stale);
    });
  }

  /** @param askers how many are told */
  #judge(key: DnsKey, result: InquiryResult | undefined, askers: number): DnsAnswer {
    const { timers, counters } = this.#parts;
    const now = timers.now();
    let answer: DnsAnswer;
    if (result === undefined) {
      counters.add('dns_failures');
      answer = noAnswer(now, RCODE.SERVFAIL, SILENCE_TTL);
    } else {
      counters.add('dns_answers');
      const question = { name: key.name, type: key.type, class: CLASS_IN };
      answer = judgeAnswer(now, question, result.message, withoutOpt(result.bytes, result.message));
      if (answer.addresses.length > 0) this.#learn(key.name, answer.addresses, answer.ttl, 'resolver');
    }
    const stale = isFailure(answer.rcode) ? this.#cache.stale(now, key) : undefined;
    if (stale === undefined) this.#cache.put(key, answer);
    else this.#onStale(key, stale, askers);
    return stale ?? answer;
  }

  /** Names that flows go by were forgotten with the answer. */
  #onStale(key: DnsKey, { addresses, ttl }: DnsAnswer, askers = 1): void {
    this.#parts.counters.add('dns_stale_answers', askers);
    if (addresses.length > 0) this.#learn(key.name, addresses, ttl, 'resolver');
  }

  #learn(host: string, addresses: readonly IpAddress[], ttl: Duration, source: NameSource): void {
    this.#parts.tracker?.record(this.#parts.timers.now(), host, addresses, ttl, source);
  }
}

const isFailure = (rcode: number): boolean => rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN;

function isAddressType(type: number): boolean {
  return type === TYPE.A || type === TYPE.AAAA || type === TYPE.HTTPS || type === TYPE.SVCB;
}
