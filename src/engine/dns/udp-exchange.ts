/**
 * One question to one server over UDP: a socket, a port, an id and a spelling of their own, and only the answer that repeats them.
 *
 *   sent ─┬─ answer with our id, question and spelling ─► answered, or truncated
 *         ├─ right but for the spelling ─► misspelt: asked again over TCP, where nobody can guess
 *         ├─ anything else: counted, waited on; too many ─► misspelt
 *         └─ ICMP ─► refused                    (time is the caller's)
 *
 * RFC 5452 §9 (what an answer must repeat), draft-vixie-dnsext-dns0x20 (the spelling adds a bit per letter).
 */
import type { SocketAddress } from '../../base/address.js';
import type { Counters } from '../../base/counters.js';
import type { Entropy } from '../../base/entropy.js';
import { DNS_HEADER, type DnsMessage, FLAG_QR, FLAG_TC, RCODE, readMessage } from './message.js';
import type { DnsCounter, DnsDialer, DnsUdp } from './transport.js';

/** Wrong answers to one question after which somebody is guessing. */
const WRONG_ANSWERS_MAX = 16;
const CASE_BIT = 0x20;

export type UdpOutcome =
  | { readonly kind: 'answered' | 'truncated' | 'no-edns'; readonly bytes: Uint8Array; readonly message: DnsMessage }
  | { readonly kind: 'misspelt' | 'refused' };

/** Flips the case of the letters of the question's name at random. */
export function randomizeCase(query: Uint8Array, entropy: Entropy): void {
  let bits = 0;
  let left = 0;
  for (let at = DNS_HEADER; query[at]! > 0; at += query[at]! + 1) {
    for (let i = at + 1; i <= at + query[at]!; i++) {
      const lower = query[i]! | CASE_BIT;
      if (lower < 0x61 || lower > 0x7a) continue;
      if (left === 0) {
        bits = entropy.uint32();
        left = 32;
      }
      if (bits & 1) query[i]! ^= CASE_BIT;
      bits >>>= 1;
      left--;
    }
  }
}

/** Whether `answer` repeats the question of `query` byte by byte, or but for the case of its letters. */
export function repeatsQuestion(query: Uint8Array, questionEnd: number, answer: Uint8Array): 'exact' | 'folded' | 'no' {
  if (answer.length < questionEnd) return 'no';
  let isExact = true;
  for (let i = DNS_HEADER; i < questionEnd; i++) {
    const a = query[i]!;
    const b = answer[i]!;
    if (a === b) continue;
    const lower = a | CASE_BIT;
    if ((a ^ b) !== CASE_BIT || lower < 0x61 || lower > 0x7a || i >= questionEnd - 4) return 'no';
    isExact = false;
  }
  return isExact ? 'exact' : 'folded';
}

export class UdpExchange {
  readonly #query: Uint8Array;
  readonly #questionEnd: number;
  readonly #to: SocketAddress;
  readonly #counters: Counters<DnsCounter>;
  readonly #done: (outcome: UdpOutcome) => void;
  readonly #socket: DnsUdp | undefined;
  #wrong = 0;
  #over = false;

  /** @param done called once, never inside this call; not after `close`. */
  constructor(
    dialer: DnsDialer,
    to: SocketAddress,
    query: Uint8Array,
    questionEnd: number,
    counters: Counters<DnsCounter>,
    done: (outcome: UdpOutcome) => void,
  ) {
    this.#query = query;
    this.#questionEnd = questionEnd;
    this.#to = to;
    this.#counters = counters;
    this.#done = done;
    this.#socket = dialer.udp(to, {
      onDatagram: (from, bytes, offset, length) => this.#onDatagram(from, bytes.slice(offset, offset + length)),
      onError: () => this.#finish({ kind: 'refused' }),
    });
    this.#socket?.send(query);
  }

  /** False when the host gave no socket. */
  get isOpen(): boolean {
    return this.#socket !== undefined;
  }

  close(): void {
    this.#over = true;
    this.#socket?.close();
  }

  #onDatagram(from: SocketAddress, bytes: Uint8Array): void {
    if (this.#over) return;
    const outcome = this.#judge(from, bytes);
    if (typeof outcome !== 'string') {
      this.#finish(outcome);
      return;
    }
    this.#counters.add(outcome);
    if (++this.#wrong >= WRONG_ANSWERS_MAX) this.#finish({ kind: 'misspelt' });
  }

  /** What a datagram amounts to, or the counter of what is wrong with it. */
  #judge(from: SocketAddress, bytes: Uint8Array): UdpOutcome | 'dns_malformed' | 'dns_spoofed' {
    if (!from.equals(this.#to)) return 'dns_spoofed';
    const message = readMessage(bytes);
    if (message === undefined) return 'dns_malformed';
    const sameId = bytes[0] === this.#query[0] && bytes[1] === this.#query[1];
    if (!sameId || (message.flags & FLAG_QR) === 0) return 'dns_spoofed';
    // A server that does not know EDNS may answer with nothing but a header (RFC 6891 §7).
    if (message.question === undefined && message.rcode === RCODE.FORMERR) return { kind: 'no-edns', bytes, message };
    const repeats = repeatsQuestion(this.#query, this.#questionEnd, bytes);
    if (message.question === undefined || repeats === 'no') return 'dns_spoofed';
    if (repeats === 'folded') {
      this.#counters.add('dns_case_mismatch');
      return { kind: 'misspelt' };
    }
    const isOld = message.rcode === RCODE.FORMERR || message.rcode === RCODE.NOTIMP;
    return { kind: isOld ? 'no-edns' : (message.flags & FLAG_TC) !== 0 ? 'truncated' : 'answered', bytes, message };
  }

  #finish(outcome: UdpOutcome): void {
    if (this.#over) return;
    this.close();
    this.#done(outcome);
  }
}
