/**
 * One capture for all traces of the process: every packet is read once and goes to the trace whose it is, by what only that
 * trace has: its local TCP or UDP port, or its echo identifier.
 *
 *   packet ─► Reply ─┬─ TCP, UDP ────────► by local port ───────────┐
 *                    ├─ echo reply ──────► by identifier ───────────┼─► listener.receive(reply)
 *                    └─ ICMP error ──────► by what it quotes ───────┤
 *                          no port fits? ► those that tell by sequence numbers (the quotation may have passed a NAT)
 *
 * The kernel's filter follows the ports in use. A key may have several listeners (one port on two local addresses): each
 * compares addresses itself.
 */
import { SallyportError } from '../../base/error.js';
import type { PacketIo, PacketSource } from '../../os/packet-io.js';
import { isEchoReply } from '../../wire/icmp.js';
import { PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP } from '../../wire/ip.js';
import { Reply } from './reply.js';

/** Ports, and so traces, at one time: their filter program stays far below what the kernel takes. */
export const LISTENERS_MAX = 1024;

export type KeyKind = 'udp' | 'tcp' | 'echo';

export interface Listener {
  receive(reply: Reply): void;
}

interface Registration {
  readonly key: number;
  readonly listener: Listener;
  readonly loose: boolean;
}

const KINDS: Readonly<Record<KeyKind, number>> = { udp: 1, tcp: 2, echo: 3 };
const keyOf = (kind: KeyKind, family: number, number: number): number =>
  (KINDS[kind] * 2 + (family === 4 ? 0 : 1)) * 0x1_0000 + number;

export interface CaptureCounters {
  /** Neither noise nor anybody's. */
  foreign: number;
  /** Not readable as an IP packet, or with a wrong ICMP checksum. */
  noise: number;
  delivered: number;
}

export class Capture {
  readonly counters: CaptureCounters = { foreign: 0, noise: 0, delivered: 0 };
  readonly #io: PacketIo;
  readonly #byKey = new Map<number, Registration[]>();
  readonly #loose = new Set<Listener>();
  readonly #reply = new Reply();
  #source: PacketSource | undefined;
  /** The ports that the kernel's filter lets through; it is narrowed only when another one is added. */
  #filtered = new Set<number>();
  #count = 0;

  constructor(io: PacketIo) {
    this.#io = io;
  }

  /** Makes sure that packets can be captured. @throws RAW_NOT_PERMITTED (environment) */
  open(): void {
    if (this.#source !== undefined) return;
    this.#source = this.#io.source((bytes, offset, length, at) => {
      if (this.#reply.read(bytes, offset, length, at)) this.#deliver();
      else this.counters.noise++;
    });
    this.#source.filter({ kind: 'icmp' });
  }

  /** Whether nobody listens for this. */
  isFree(kind: KeyKind, family: 4 | 6, number: number): boolean {
    return !this.#byKey.has(keyOf(kind, family, number));
  }

  /**
   * Sends what belongs to a port or echo identifier to `listener`; returns what ends it. `loose`: also ICMP errors about TCP
   * whose quoted port is nobody's. @throws TRACE_LIMIT (environment), RAW_NOT_PERMITTED (environment)
   */
  listen(kind: KeyKind, family: 4 | 6, number: number, listener: Listener, loose = false): () => void {
    this.open();
    if (this.#count >= LISTENERS_MAX) {
      throw new SallyportError('environment', 'TRACE_LIMIT', `more than ${LISTENERS_MAX} traces at one time`);
    }
    const registration: Registration = { key: keyOf(kind, family, number), listener, loose };
    this.#byKey.set(registration.key, [...(this.#byKey.get(registration.key) ?? []), registration]);
    if (loose) this.#loose.add(listener);
    this.#count++;
    if (kind !== 'echo' && !this.#filtered.has(number)) this.#widen();
    return () => this.#remove(registration);
  }

  /** Hands over what waits. */
  drain(): void {
    this.#source?.drain();
  }

  /** Closes a capture that was opened and then not listened to. */
  closeUnused(): void {
    if (this.#count === 0) this.close();
  }

  /** When the last listener goes, this happens by itself. */
  close(): void {
    this.#source?.close();
    this.#source = undefined;
    this.#filtered = new Set();
  }

  #remove(registration: Registration): void {
    const left = this.#byKey.get(registration.key)?.filter((one) => one !== registration) ?? [];
    if (left.length > 0) this.#byKey.set(registration.key, left);
    else this.#byKey.delete(registration.key);
    if (registration.loose) this.#loose.delete(registration.listener);
    if (--this.#count === 0) this.close();
  }

  #widen(): void {
    const ports = new Set<number>();
    for (const key of this.#byKey.keys()) {
      if (key >= keyOf('echo', 4, 0)) continue;
      ports.add(key & 0xffff);
    }
    this.#source!.filter({ kind: 'ports', ports: [...ports] });
    this.#filtered = ports;
  }

  #deliver(): void {
    const { packet, quote, error } = this.#reply;
    const { family } = packet;
    let listeners: readonly Registration[] | undefined;
    if (error !== undefined) {
      const kind = quotedKind(quote.protocol);
      if (kind !== undefined) listeners = this.#byKey.get(keyOf(kind, family, quote.sourcePort));
      if (listeners === undefined && kind === 'tcp') {
        for (const listener of [...this.#loose]) listener.receive(this.#reply);
        return;
      }
    } else if (packet.protocol === PROTO_TCP) listeners = this.#byKey.get(keyOf('tcp', family, packet.destinationPort));
    else if (packet.protocol === PROTO_UDP) listeners = this.#byKey.get(keyOf('udp', family, packet.destinationPort));
    else if (isEchoReply(packet)) listeners = this.#byKey.get(keyOf('echo', family, packet.sourcePort));
    if (listeners === undefined) {
      this.counters.foreign++;
      return;
    }
    this.counters.delivered++;
    for (const { listener } of listeners) listener.receive(this.#reply);
  }
}

function quotedKind(protocol: number): KeyKind | undefined {
  switch (protocol) {
    case PROTO_TCP:
      return 'tcp';
    case PROTO_UDP:
      return 'udp';
    case PROTO_ICMP:
    case PROTO_ICMPV6:
      return 'echo';
    default:
      return undefined;
  }
}
