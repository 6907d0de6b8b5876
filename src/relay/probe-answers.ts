/**
 * Answers PROBE, the question of where somebody is seen from. A relay may have a second port beside each of its own, so that whoever
 * asks can tell how the NAT before it maps and filters (RFC 4787 §4, §5), and may be asked to answer later, which tells how long that
 * NAT keeps a mapping.
 *
 *   PROBE ─► limits ─► at once ───────────────────────────────────► PROBE REPLY, from the port that was asked or from the other
 *                └──► later: waits, one of at most MOST_WAITING ──┘
 */
import { ADDRESS_WORDS, SocketAddress } from '../base/address.js';
import { TokenBucket } from '../base/bucket.js';
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import { type HeapEntry, IndexedHeap } from '../base/heap.js';
import { type Instant, later, Millis, Seconds } from '../base/time.js';
import type { TransmitMemory, UdpBatch, UdpSocket } from '../os/io.js';
import { decodeProbe, encodeProbeReply, Frame, PROBE_LENGTH, type Probe } from '../tunnel/frames.js';
import { SourceLimiter } from './source-limiter.js';

/** A PROBE of one source is answered at most this often. */
const PROBE_INTERVAL = Millis(50);
/** PROBEs answered a second altogether, from however many sources they seem to come. */
const PROBES_PER_SECOND = 2000;
/** Longest delay that may be asked for, in seconds: no NAT in use keeps an idle mapping longer than it is worth to know. */
const LONGEST_DELAY = 300;
/** Answers that wait at once; beyond it a PROBE that is to be answered later is dropped. */
export const MOST_WAITING = 4096;
/** Room for the answers of a turn: one for each datagram of one receive, roughly. */
const ANSWER_MEMORY = 16 * 1024;

export interface ProbeCounters {
  /** Answered, from either port. */
  probes: number;
  /** Of these, those that had to wait. */
  delayedProbes: number;
}

interface Port {
  readonly socket: UdpSocket;
  readonly answers: TransmitMemory;
  used: number;
}

/** An answer that waits for its time. */
interface Waiting extends HeapEntry {
  readonly port: Port;
  readonly bytes: Uint8Array;
  readonly to: Uint32Array;
  readonly from: Uint32Array;
}

export class ProbeAnswers {
  readonly counters: ProbeCounters = { probes: 0, delayedProbes: 0 };
  /** The relay's own sockets first, in their order, then the second ones. */
  readonly #ports: readonly Port[];
  readonly #drops: Counters<DropName>;
  readonly #limit = new SourceLimiter(PROBE_INTERVAL);
  readonly #bucket = new TokenBucket(PROBES_PER_SECOND, PROBES_PER_SECOND);
  readonly #waiting = new IndexedHeap<Waiting>();

  /** @param seconds at most one per address family, on the addresses of `sockets` but another port. */
  constructor(sockets: readonly UdpSocket[], seconds: readonly UdpSocket[], drops: Counters<DropName>) {
    this.#drops = drops;
    this.#ports = [...sockets, ...seconds].map((socket) => ({
      socket,
      answers: socket.registerTransmit(new Uint8Array(ANSWER_MEMORY)),
      used: 0,
    }));
  }

  /** When `turn` is due; undefined when nothing waits. */
  get due(): Instant | undefined {
    return this.#waiting.size === 0 ? undefined : (this.#waiting.smallestKey as Instant);
  }

  /** Handles a batch that a second socket has received (`index` counts the relay's own first) and flushes. */
  handleBatch(now: Instant, index: number, entries: number): void {
    const { rx } = this.#ports[index]!.socket;
    for (let entry = 0; entry < entries; entry++) {
      const end = rx.offsets[entry]! + rx.lengths[entry]!;
      for (let at = rx.offsets[entry]!; at < end; at += rx.segments[entry]!) {
        const isProbe = rx.memory[at] === Frame.probe && Math.min(rx.segments[entry]!, end - at) === PROBE_LENGTH;
        if (isProbe) this.ask(now, index, rx, entry, at);
        else this.#drops.values[Drop.unknown_frame]!++;
      }
    }
    this.flush();
  }

  /** Answers the PROBE at `at` of entry `entry`, which socket `index` has received; `flush` has to follow. */
  ask(now: Instant, index: number, rx: UdpBatch, entry: number, at: number): void {
    if (!this.#limit.admit(now, rx.sources, entry) || !this.#bucket.take(now)) {
      this.#drops.values[Drop.rate_limited]!++;
      return;
    }
    const probe = decodeProbe(rx.memory, at, PROBE_LENGTH)!;
    const asked = this.#ports[index]!;
    const other = this.#otherThan(asked);
    const answering = probe.fromOtherPort ? (other ?? asked) : asked;
    const source = SocketAddress.read(rx.sources, entry);
    const reply = encodeProbeReply(probe.nonce, source, answering.socket.local.port, other?.socket.local.port ?? 0);
    if (probe.delaySeconds === 0) this.#send(answering, reply, rx.sources, entry, rx.locals, entry);
    else this.#wait(now, probe, answering, reply, rx, entry);
  }

  #wait(now: Instant, probe: Probe, port: Port, bytes: Uint8Array, rx: UdpBatch, entry: number): void {
    if (probe.delaySeconds > LONGEST_DELAY || this.#waiting.size >= MOST_WAITING) {
      this.#drops.values[probe.delaySeconds > LONGEST_DELAY ? Drop.malformed : Drop.rate_limited]!++;
      return;
    }
    const words = (table: Uint32Array): Uint32Array => table.slice(entry * ADDRESS_WORDS, (entry + 1) * ADDRESS_WORDS);
    const waiting = { heapSlot: -1, port, bytes, to: words(rx.sources), from: words(rx.locals) };
    this.#waiting.set(waiting, later(now, Seconds(probe.delaySeconds)));
  }

  /** Sends what has waited long enough. Between batches only. */
  turn(now: Instant): void {
    if (this.#waiting.smallestKey > now) return;
    while (this.#waiting.smallestKey <= now) {
      const { port, bytes, to, from } = this.#waiting.pop()!;
      this.#send(port, bytes, to, 0, from, 0);
      this.counters.delayedProbes++;
    }
    this.flush();
  }

  flush(): void {
    for (const port of this.#ports) {
      if (port.used === 0) continue;
      port.socket.flush();
      port.used = 0;
    }
  }

  #otherThan(asked: Port): Port | undefined {
    return this.#ports.find((one) => one !== asked && one.socket.local.ip.family === asked.socket.local.ip.family);
  }

  #send(port: Port, reply: Uint8Array, to: Uint32Array, toIndex: number, from: Uint32Array, fromIndex: number): void {
    if (port.used + reply.length > port.answers.bytes.length) this.flush();
    const at = port.used;
    port.answers.bytes.set(reply, at);
    port.used += reply.length;
    port.socket.send(port.answers, at, reply.length, reply.length, to, toIndex, from, fromIndex);
    this.counters.probes++;
  }
}
