/**
 * One question put to the servers until one answers: in order of health, each try with a time limit of its own.
 *
 *   next server ─► UDP ─┬─ answered ──► done                 TCP, TLS, HTTPS ─┬─ answered ──► done
 *        ▲              ├─ truncated, misspelt ─► its TCP                     └─ failed ──► next
 *        │              ├─ no EDNS there ─► UDP without EDNS
 *        └──────────────┴─ SERVFAIL, REFUSED, timeout, ICMP
 *
 * NXDOMAIN is an answer; when there is none, the last refusal is. RFC 5452, RFC 6891 §6.2.2, RFC 7766 §5.
 */
import type { Counters } from '../../base/counters.js';
import type { Entropy } from '../../base/entropy.js';
import { type Duration, type Instant, later, Seconds } from '../../base/time.js';
import type { DnsKey } from './cache.js';
import { DNS_HEADER, type DnsMessage, RCODE, writeName, writeQuery } from './message.js';
import type { ServerState } from './server-state.js';
import type { DnsCounter, DnsDialer, DnsTimers } from './transport.js';
import { randomizeCase, UdpExchange } from './udp-exchange.js';

/** One try over UDP, and one over a stream, whose handshakes take round trips of their own. */
const UDP_TIME = Seconds(2);
const STREAM_TIME = Seconds(4);
/** Everything together: programs give up after about as long. */
const TOTAL_TIME = Seconds(10);
/** Tries in all: three with one server, and each server once with more of them. */
const TRIES_MIN = 3;
const TRIES_MAX = 6;

export interface InquiryParts {
  readonly dialer: DnsDialer;
  readonly timers: DnsTimers;
  readonly entropy: Entropy;
  readonly counters: Counters<DnsCounter>;
  /** Best first. */
  readonly servers: readonly ServerState[];
}

export interface InquiryResult {
  readonly bytes: Uint8Array;
  readonly message: DnsMessage;
  readonly server: ServerState;
}

export class Inquiry {
  readonly #parts: InquiryParts;
  readonly #key: DnsKey;
  readonly #name: Uint8Array;
  readonly #deadline: Instant;
  readonly #done: (result: InquiryResult | undefined) => void;
  #tries = 0;
  #refusal: InquiryResult | undefined;
  #cancelTry: () => void = () => {};
  #over = false;

  /** @param done called once, never inside this call; not after `close`. */
  constructor(parts: InquiryParts, key: DnsKey, done: (result: InquiryResult | undefined) => void) {
    this.#parts = parts;
    this.#key = key;
    this.#name = writeName(key.name)!;
    this.#deadline = later(parts.timers.now(), TOTAL_TIME);
    this.#done = done;
    this.#next();
  }

  close(): void {
    this.#over = true;
    this.#cancelTry();
  }

  #next(): void {
    const { servers, timers } = this.#parts;
    const tries = Math.min(Math.max(TRIES_MIN, servers.length), TRIES_MAX);
    if (servers.length === 0 || this.#tries >= tries || timers.now() >= this.#deadline) {
      this.#cancelTry = timers.at(timers.now(), () => this.#finish(this.#refusal));
      return;
    }
    const server = servers[this.#tries++ % servers.length]!;
    if (server.isStreamOnly) this.#overStream(server);
    else this.#overUdp(server, !server.lacksEdns);
  }

  #query(withEdns: boolean): Uint8Array {
    const { dnssec, checkingDisabled, type } = this.#key;
    return writeQuery({
      id: this.#parts.entropy.uint32() >>> 16,
      name: this.#name,
      type,
      checkingDisabled,
      dnssec: withEdns ? dnssec : undefined,
    });
  }

  #questionEnd(): number {
    return DNS_HEADER + this.#name.length + 4;
  }

  #overUdp(server: ServerState, withEdns: boolean): void {
    const { dialer, entropy, counters } = this.#parts;
    const query = this.#query(withEdns);
    randomizeCase(query, entropy);
    counters.add('dns_server_queries');
    const exchange = new UdpExchange(dialer, server.address, query, this.#questionEnd(), counters, (outcome) => {
      this.#cancelTry();
      if (outcome.kind === 'answered') this.#judge({ ...outcome, server });
      else if (outcome.kind === 'no-edns' && withEdns) {
        server.lacksEdns = true;
        this.#overUdp(server, false);
      } else if (outcome.kind === 'no-edns') this.#judge({ ...outcome, server });
      else if (outcome.kind === 'refused') this.#failed(server);
      else {
        if (outcome.kind === 'truncated') counters.add('dns_truncated');
        this.#overStream(server);
      }
    });
    this.#limit(server, UDP_TIME, () => exchange.close());
    // A way out that carries no datagrams may carry a stream.
    if (!exchange.isOpen) this.#soon(() => this.#overStream(server));
  }

  #overStream(server: ServerState): void {
    this.#parts.counters.add('dns_server_queries');
    const withdraw = server.stream().ask(this.#query(!server.lacksEdns), this.#questionEnd(), (answer) => {
      this.#cancelTry();
      if (answer === undefined) this.#failed(server);
      else this.#judge({ ...answer, server });
    });
    this.#limit(server, STREAM_TIME, withdraw);
  }

  /** Sets what ends this try: `stop`, and the timer that calls it. */
  #limit(server: ServerState, span: Duration, stop: () => void): void {
    const { timers, counters } = this.#parts;
    const at = Math.min(later(timers.now(), span), this.#deadline) as Instant;
    const stopTimer = timers.at(at, () => {
      this.#cancelTry();
      counters.add('dns_timeouts');
      this.#failed(server);
    });
    this.#cancelTry = () => {
      this.#cancelTry = () => {};
      stop();
      stopTimer();
    };
  }

  #soon(act: () => void): void {
    this.#cancelTry();
    this.#cancelTry = this.#parts.timers.at(this.#parts.timers.now(), act);
  }

  #judge(result: InquiryResult): void {
    result.server.onAnswer();
    const { rcode } = result.message;
    if (rcode === RCODE.NOERROR || rcode === RCODE.NXDOMAIN) this.#finish(result);
    else {
      this.#refusal = result;
      this.#next();
    }
  }

  #failed(server: ServerState): void {
    if (this.#over) return;
    server.onFailure(this.#parts.timers.now());
    this.#next();
  }

  #finish(result: InquiryResult | undefined): void {
    if (this.#over) return;
    this.#over = true;
    if (result !== undefined && result.server !== this.#parts.servers[0]) this.#parts.counters.add('dns_fallbacks');
    this.#done(result);
  }
}
