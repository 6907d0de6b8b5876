/**
 * Transfers in virtual time over a path with loss, delay and, if wanted, a bottleneck with a queue: what the matrix and
 * the fairness table are made of.
 *
 *   senders ─► loss ─► [bottleneck: rate, queue in bytes, CE marks, tail drop] ─► delay ─► receivers        acknowledgements: loss ─► delay
 *
 * Packets of one direction never overtake each other, so that each direction is a queue.
 */
import { SocketAddress } from '../../../src/base/address.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { type Duration, Hours, type Instant, instantAt, Micros } from '../../../src/base/time.js';
import { Packetizer } from '../../../src/netstack/packetizer.js';
import { Stack } from '../../../src/netstack/stack.js';
import type { TcpConnection } from '../../../src/netstack/tcp/connection.js';
import type { TcpOptions } from '../../../src/netstack/tcp/options.js';
import type { TcpHandlers } from '../../../src/netstack/types.js';
import { Arena } from '../../../src/wire/arena.js';
import { markCongestion } from '../../../src/wire/ecn.js';
import { crypto } from '../harness.js';

export interface PathOptions {
  /** Round trip without queueing. */
  readonly rtt: Duration;
  /** Probability that a packet is lost, each way. */
  readonly loss: number;
  /** Bytes per second of the bottleneck towards the receivers; absent = unlimited. */
  readonly rate?: number;
  /** Packets that find more bytes than this waiting are marked instead of queued as they are, if they are ECT; absent = none. */
  readonly mark?: number;
  /** Bytes that wait at the bottleneck at most. */
  readonly queue?: number;
  /** Longest packet that is carried `seconds` after the start; longer ones vanish without a word. */
  readonly mtu?: (seconds: number) => number;
  readonly seed: number;
  readonly tcp?: Partial<TcpOptions>;
}

const MTU = 1500;
const START = instantAt(1_000_000);

interface Flight {
  readonly at: number;
  readonly packet: Uint8Array;
}

/** One direction. */
class Pipe {
  readonly #queue: Flight[] = [];
  #head = 0;
  #free = 0;
  dropped = 0;
  marked = 0;
  /** The longest packet carried since this was last set to 0. */
  longest = 0;
  readonly #random: SeededEntropy;

  constructor(
    readonly path: PathOptions,
    readonly rate: number | undefined,
    seed: number,
  ) {
    this.#random = new SeededEntropy(seed);
  }

  push(now: Instant, packet: Uint8Array): void {
    if (this.#random.unit() < this.path.loss) return;
    if (this.path.mtu !== undefined && packet.length > this.path.mtu((now - START) / 1e6)) return;
    this.longest = Math.max(this.longest, packet.length);
    let leaves: number = now;
    if (this.rate !== undefined) {
      const waiting = Math.max(this.#free - now, 0) * (this.rate / 1e6);
      if (waiting + packet.length > (this.path.queue ?? Number.POSITIVE_INFINITY)) {
        this.dropped++;
        return;
      }
      if (waiting > (this.path.mark ?? Number.POSITIVE_INFINITY) && markCongestion(packet, 0)) this.marked++;
      leaves = Math.max(this.#free, now) + (packet.length / this.rate) * 1e6;
      this.#free = leaves;
    }
    this.#queue.push({ at: leaves + this.path.rtt / 2, packet });
  }

  /** Bytes that wait at the bottleneck. */
  waiting(now: Instant): number {
    return Math.max(this.#free - now, 0) * ((this.rate ?? 0) / 1e6);
  }

  get next(): number {
    return this.#queue[this.#head]?.at ?? Number.POSITIVE_INFINITY;
  }

  pop(): Uint8Array {
    const { packet } = this.#queue[this.#head++]!;
    if (this.#head > 1024) {
      this.#queue.splice(0, this.#head);
      this.#head = 0;
    }
    return packet;
  }
}

class End {
  readonly stack: Stack;
  readonly #packetizer: Packetizer;
  readonly #arena = new Arena(1 << 11);
  now: Instant = START;

  constructor(
    readonly pipe: Pipe,
    address: string,
    seed: number,
    tcp: Partial<TcpOptions>,
    accept: (() => TcpHandlers) | undefined,
  ) {
    this.#packetizer = new Packetizer(new Arena(1 << 18), 512, (batch) => {
      for (let i = 0; i < batch.count; i++) {
        const at = batch.table[2 * i]!;
        this.pipe.push(this.now, batch.arena.bytes.slice(at, at + batch.table[2 * i + 1]!));
      }
    });
    this.stack = new Stack({
      mtu: MTU,
      sink: this.#packetizer,
      entropy: new SeededEntropy(seed),
      crypto,
      tcp,
      localV4: SocketAddress.parse(`${address}:0`)!.ip,
      handlers: accept === undefined ? {} : { onSyn: (request) => request.accept(accept()) },
    });
  }

  receive(now: Instant, packet: Uint8Array): void {
    this.#arena.bytes.set(packet);
    this.stack.handlePacket(now, this.#arena, 0, packet.length, 0, true);
  }

  flush(now: Instant): void {
    this.now = now;
    this.stack.flush(now);
    this.#packetizer.flush();
  }
}

/** A sender's application: writes without end. */
class Source implements TcpHandlers {
  connection: TcpConnection | undefined;
  static readonly #data = new Uint8Array(65_536);

  onConnected(): void {
    this.feed();
  }

  onWritable(): void {
    this.feed();
  }

  onData(_bytes: Uint8Array, _offset: number, length: number): number {
    return length;
  }

  onClosed(reason: string): void {
    throw new Error(`connection closed: ${reason}`);
  }

  feed(): void {
    while (this.connection!.write(Source.#data, 0, Source.#data.length) > 0);
  }
}

export class Simulation {
  now: Instant = START;
  /** Bytes received per flow. */
  readonly received: number[] = [];
  readonly #down: Pipe;
  readonly #up: Pipe;
  readonly #sender: End;
  readonly #receiver: End;

  constructor(
    readonly path: PathOptions,
    flows: number,
  ) {
    this.#down = new Pipe(path, path.rate, path.seed * 4 + 1);
    this.#up = new Pipe(path, undefined, path.seed * 4 + 2);
    const tcp = { keepaliveIdle: Micros(0), userTimeout: Hours(240), synRetries: 100, ...path.tcp };
    this.#sender = new End(this.#down, '10.0.0.1', path.seed * 4 + 3, tcp, undefined);
    this.#receiver = new End(this.#up, '10.0.0.2', path.seed * 4 + 4, tcp, () => {
      const flow = this.received.push(0) - 1;
      return {
        onData: (_bytes, _offset, length) => {
          this.received[flow]! += length;
          return length;
        },
        onClosed: () => {},
      };
    });
    for (let i = 0; i < flows; i++) {
      const source = new Source();
      const to = SocketAddress.parse(`10.0.0.2:${1000 + i}`)!;
      source.connection = this.#sender.stack.connect(this.now, to, source);
    }
  }

  /** The longest packet carried towards the receivers since the last call. */
  takeLongest(): number {
    const { longest } = this.#down;
    this.#down.longest = 0;
    return longest;
  }

  get senderStack(): Stack {
    return this.#sender.stack;
  }

  /** Packets the bottleneck had no room for. */
  get dropped(): number {
    return this.#down.dropped;
  }

  /** Packets the bottleneck has marked. */
  get marked(): number {
    return this.#down.marked;
  }

  /** Bytes that wait at the bottleneck now. */
  get waiting(): number {
    return this.#down.waiting(this.now);
  }

  get total(): number {
    return this.received.reduce((sum, n) => sum + n, 0);
  }

  /** Runs until `done` or for `span`; returns the seconds since the start. */
  run(span: Duration, done: () => boolean): number {
    const until = this.now + span;
    while (!done()) {
      this.#sender.flush(this.now);
      this.#receiver.flush(this.now);
      const next = Math.min(
        this.#down.next,
        this.#up.next,
        this.#sender.stack.pollTimeout() ?? Number.POSITIVE_INFINITY,
        this.#receiver.stack.pollTimeout() ?? Number.POSITIVE_INFINITY,
      );
      if (next > until) break;
      this.now = instantAt(Math.max(next, this.now));
      while (this.#down.next <= this.now) this.#receiver.receive(this.now, this.#down.pop());
      while (this.#up.next <= this.now) this.#sender.receive(this.now, this.#up.pop());
      for (const { stack } of [this.#sender, this.#receiver]) {
        const due = stack.pollTimeout();
        if (due !== undefined && due <= this.now) stack.handleTimeout(this.now);
      }
    }
    return (this.now - START) / 1e6;
  }
}

/** Jain's index: 1 when all are equal, 1/n when one has everything. */
export function fairness(shares: readonly number[]): number {
  const sum = shares.reduce((a, b) => a + b, 0);
  const squares = shares.reduce((a, b) => a + b * b, 0);
  return (sum * sum) / (shares.length * squares);
}
