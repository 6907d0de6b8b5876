/** Servers, network and clock for resolver tests in virtual time; messages are made and read by dns-packet, not by src/. */
import { type Answer, type DecodedPacket, decode, encode, type Packet, type Question } from 'dns-packet';
import { type IpAddress, SocketAddress } from '../../../src/base/address.js';
import { Counters } from '../../../src/base/counters.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { type Instant, instantAt, later, Millis, scale } from '../../../src/base/time.js';
import { Timer, TimerQueue } from '../../../src/base/timers.js';
import {
  DNS_COUNTERS,
  type DnsDialer,
  type DnsStream,
  type DnsStreamHandlers,
  type DnsTimers,
  type DnsUdpHandlers,
} from '../../../src/engine/dns/transport.js';

export interface Asked {
  readonly via: 'udp' | 'tcp' | 'tls';
  readonly bytes: Uint8Array;
  readonly query: Packet;
  readonly question: Question;
  readonly name: string;
}

/** Bytes to send back, several datagrams, nothing, or an ICMP error or reset. */
type Reaction = Uint8Array | readonly Uint8Array[] | 'silence' | 'refuse';
export type Server = (asked: Asked) => Reaction;

/** One way. */
const LATENCY = Millis(10);

export class DnsWorld implements DnsTimers {
  readonly counters = new Counters(DNS_COUNTERS);
  readonly entropy = new SeededEntropy(7);
  readonly servers = new Map<string, Server>();
  /** What a server that speaks something else in its stream does with bytes. */
  readonly streams = new Map<string, (bytes: Uint8Array, reply: (bytes: Uint8Array) => void) => void>();
  readonly asked: { readonly server: string; readonly at: number; readonly asked: Asked }[] = [];
  readonly opened: string[] = [];
  openSockets = 0;
  /** From another address than was asked. */
  spoofFrom: SocketAddress | undefined;
  readonly #queue = new TimerQueue();
  #now = instantAt(0);

  now(): Instant {
    return this.#now;
  }

  at(at: Instant, handler: (now: Instant) => void): () => void {
    const timer = new Timer(handler);
    this.#queue.arm(timer, at);
    return () => this.#queue.cancel(timer);
  }

  /** Lets time pass; events happen on the way. */
  run(span = Millis(60_000)): void {
    const end = later(this.#now, span);
    for (let next = this.#queue.next(); next !== undefined && next <= end; next = this.#queue.next()) {
      if (next > this.#now) this.#now = next;
      this.#queue.expire(this.#now);
    }
    this.#now = end;
  }

  get timersArmed(): number {
    return this.#queue.size;
  }

  get dialer(): DnsDialer {
    return {
      udp: (to, handlers) => this.#udp(to, handlers),
      tcp: (to, handlers) => this.#stream('tcp', to, handlers),
      tls: (to, name, protocols, handlers) => this.#stream(`tls ${name} ${protocols.join()}`, to, handlers),
    };
  }

  #after(act: () => void, steps = 1): void {
    this.at(later(this.#now, scale(LATENCY, steps)), act);
  }

  #udp(to: SocketAddress, handlers: DnsUdpHandlers) {
    this.opened.push(`udp ${to}`);
    this.openSockets++;
    let isOpen = true;
    return {
      send: (bytes: Uint8Array) => {
        const sent = bytes.slice();
        this.#after(() => {
          const reaction = this.#ask('udp', to, sent);
          if (reaction === 'silence') return;
          this.#after(() => {
            if (!isOpen) return;
            if (reaction === 'refuse') return handlers.onError();
            for (const datagram of reaction instanceof Uint8Array ? [reaction] : reaction) {
              if (isOpen) handlers.onDatagram(this.spoofFrom ?? to, datagram, 0, datagram.length);
            }
          });
        });
      },
      close: () => {
        if (isOpen) this.openSockets--;
        isOpen = false;
      },
    };
  }

  #stream(kind: string, to: SocketAddress, handlers: DnsStreamHandlers): DnsStream {
    this.opened.push(`${kind} ${to}`);
    this.openSockets++;
    let isOpen = true;
    let buffer = new Uint8Array(0);
    const close = (): void => {
      if (isOpen) this.openSockets--;
      isOpen = false;
    };
    const end = (): void => {
      if (!isOpen) return;
      close();
      handlers.onClosed();
    };
    const reply = (bytes: Uint8Array): void =>
      this.#after(() => {
        // In two pieces, so that framing has something to do.
        if (isOpen) handlers.onData(bytes, 0, 1);
        if (isOpen) handlers.onData(bytes, 1, bytes.length - 1);
      });
    const hasServer = this.servers.has(to.toString()) || this.streams.has(to.toString());
    this.#after(() => {
      if (!hasServer) end();
      else if (isOpen) handlers.onOpen();
    });
    return {
      write: (bytes) => {
        const raw = this.streams.get(to.toString());
        if (raw !== undefined) {
          const copy = bytes.slice();
          this.#after(() => raw(copy, reply));
          return;
        }
        buffer = Uint8Array.from([...buffer, ...bytes]);
        while (buffer.length >= 2 && buffer.length >= 2 + buffer[0]! * 256 + buffer[1]!) {
          const length = buffer[0]! * 256 + buffer[1]!;
          const message = buffer.slice(2, 2 + length);
          buffer = buffer.slice(2 + length);
          this.#after(() => {
            const reaction = this.#ask(kind.startsWith('tls') ? 'tls' : 'tcp', to, message);
            if (reaction === 'refuse') return end();
            if (reaction === 'silence') return;
            for (const answer of reaction instanceof Uint8Array ? [reaction] : reaction) {
              reply(Uint8Array.from([answer.length >> 8, answer.length & 255, ...answer]));
            }
          });
        }
      },
      close,
    };
  }

  #ask(via: Asked['via'], to: SocketAddress, bytes: Uint8Array): Reaction {
    const server = this.servers.get(to.toString());
    const query = decode(Buffer.from(bytes));
    const question = query.questions![0]!;
    const asked = { via, bytes, query, question, name: question.name.toLowerCase() };
    this.asked.push({ server: to.toString(), at: this.#now - 0, asked });
    if (server === undefined) return via === 'udp' ? 'silence' : 'refuse';
    return server(asked);
  }
}

export interface ReplyShape {
  readonly rcode?: number;
  readonly flags?: number;
  readonly answers?: readonly Answer[];
  readonly authorities?: readonly Answer[];
  readonly additionals?: readonly Answer[];
  readonly edns?: boolean;
}

/** A well-behaved server's answer: same id, same question in the same spelling. */
export function reply(asked: Asked, shape: ReplyShape): Uint8Array {
  const opt = { type: 'OPT', name: '.', udpPayloadSize: 4096, flags: 0, options: [], ednsVersion: 0, extendedRcode: 0 };
  const bytes = encode({
    type: 'response',
    id: asked.query.id ?? 0,
    flags: (shape.flags ?? 0x180) | (shape.rcode ?? 0),
    questions: [asked.question],
    answers: [...(shape.answers ?? [])],
    authorities: [...(shape.authorities ?? [])],
    additionals: [...(shape.additionals ?? []), ...(shape.edns === true ? [opt as unknown as Answer] : [])],
  });
  return Uint8Array.from(bytes);
}

export const a = (name: string, data: string, ttl = 60): Answer => ({ type: 'A', name, data, ttl });
export const aaaa = (name: string, data: string, ttl = 60): Answer => ({ type: 'AAAA', name, data, ttl });
export const soa = (name: string, minimum: number, ttl = 3600): Answer => ({
  type: 'SOA',
  name,
  ttl,
  data: { mname: `ns.${name}`, rname: `root.${name}`, serial: 1, refresh: 1, retry: 1, expire: 1, minimum },
});

/** A client's query. */
export function query(
  name: string,
  type: string,
  options: { size?: number; dnssec?: boolean; id?: number } = {},
): Uint8Array {
  const opt = {
    type: 'OPT',
    name: '.',
    udpPayloadSize: options.size ?? 4096,
    flags: options.dnssec === true ? 0x8000 : 0,
    options: [],
    ednsVersion: 0,
    extendedRcode: 0,
  };
  const bytes = encode({
    type: 'query',
    id: options.id ?? 4711,
    flags: 0x100,
    questions: [{ name, type: type as 'A', class: 'IN' }],
    additionals: options.size === undefined && options.dnssec === undefined ? [] : [opt as unknown as Answer],
  });
  return Uint8Array.from(bytes);
}

export const read = (bytes: Uint8Array) => decode(Buffer.from(bytes)) as DecodedPacket & { readonly rcode: string };
export const texts = (addresses: readonly IpAddress[]): string[] => addresses.map((ip) => ip.toString());
export const server = (text: string): SocketAddress => SocketAddress.parse(text)!;
