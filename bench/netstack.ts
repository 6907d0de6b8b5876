/**
 * TCP through two userspace stacks back to back on one core, of its processor time: how fast one connection moves bytes, how many
 * connections a second come and go one after the other, and what an idle one holds. The sender copies its data into the send
 * buffer (as read(2) would), the receiver takes it as offered.
 *
 *   64k       segments of 64 KB, each summed once when it is made and verified once when it arrives
 *   gro       cut into packets of the MTU with checksums (wire/gso), verified and coalesced again (wire/gro)
 *   packets   cut into packets, each verified and handled by itself
 *   supers    super-segments handed over as they are: one copy from the send buffer, no checksums
 *
 * Ends with 1 when a figure is below what is asked of it. `--quick`: a fiftieth of the work, to see that it runs.
 */
import { createHmac } from 'node:crypto';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { IpAddress, SocketAddress } from '../src/base/address.js';
import { SeededEntropy } from '../src/base/entropy.js';
import { type Instant, instantAt, later, Micros, Millis, Seconds } from '../src/base/time.js';
import { Packetizer } from '../src/netstack/packetizer.js';
import { Stack } from '../src/netstack/stack.js';
import type { TcpConnection } from '../src/netstack/tcp/connection.js';
import type { StackHandlers, StackSink, TcpHandlers } from '../src/netstack/types.js';
import { Arena } from '../src/wire/arena.js';
import { Coalescer } from '../src/wire/gro.js';
import { asProgram, helpFirst } from './arguments.js';
import { type Bar, Figures } from './figures.js';

const MTU = 1400;
/** The largest an IPv4 packet can be. */
const LARGEST_MTU = 65_535;
const ROUNDS = 5;
/** Virtual time of one turn while bytes move. */
const TURN = Micros(100);
/** The same while connections come and go: a round trip is two. */
const TURN_OF_SHORT = Millis(10);
const ROUND_BYTES = 256 * 1024 * 1024;
const SHORT_CONNECTIONS = 50_000;
const IDLE_PAIRS = 10_000;
/** Until buffers that have become empty are given back. */
const REST = Seconds(10);
/** Asked at an MTU of 1400 and of 64 KB, Gbit/s; sequential connections a second; bytes of an idle end. */
const BARS = { packets: 2.7, large: 10, connections: 10_000, idle: 8192 };

const crypto = {
  hmacSha256: (key: Uint8Array, data: Uint8Array) => new Uint8Array(createHmac('sha256', key).update(data).digest()),
};
setFlagsFromString('--expose_gc');
const collect = runInNewContext('gc') as () => void;

/** What carries one stack's packets to the other. */
interface Wire extends StackSink {
  deliver(to: Stack, now: Instant): void;
}

/** Keeps super-segments in an arena until they are handed over. */
class Supers implements Wire {
  readonly #arena = new Arena(1 << 23);
  readonly #table: number[] = [];
  #end = 0;

  emit(packet: Arena, offset: number, length: number): void {
    this.#arena.bytes.set(packet.bytes.subarray(offset, offset + length), this.#end);
    this.#note(length, 0);
  }

  emitTcp(
    header: Arena,
    headerOffset: number,
    headerLength: number,
    payload: Arena,
    offset: number,
    length: number,
    segmentSize: number,
  ): void {
    this.#arena.bytes.set(header.bytes.subarray(headerOffset, headerOffset + headerLength), this.#end);
    this.#arena.bytes.set(payload.bytes.subarray(offset, offset + length), this.#end + headerLength);
    this.#note(headerLength + length, segmentSize);
  }

  deliver(to: Stack, now: Instant): void {
    for (let i = 0; i < this.#table.length; i += 3) {
      to.handlePacket(now, this.#arena, this.#table[i]!, this.#table[i + 1]!, this.#table[i + 2]!, true);
    }
    this.#table.length = 0;
    this.#end = 0;
  }

  #note(length: number, segmentSize: number): void {
    this.#table.push(this.#end, length, segmentSize);
    this.#end += (length + 3) & ~3;
  }
}

/** Cuts into packets and hands each over, through a coalescer or not: what is full before may go, because the peer only notes what it owes. */
class Packets extends Packetizer implements Wire {
  #to: Stack | undefined;
  #now: Instant = instantAt(0);
  readonly #coalescer: Coalescer;

  constructor(coalesces: boolean) {
    super(new Arena(1 << 18), 512, (batch) => {
      for (let i = 0; i < batch.count; i++) {
        const at = batch.table[2 * i]!;
        const length = batch.table[2 * i + 1]!;
        if (coalesces) this.#coalescer.push(batch.arena, at, length);
        else this.#to!.handlePacket(this.#now, batch.arena, at, length, 0, false);
      }
    });
    this.#coalescer = new Coalescer({
      emit: (p) => this.#to!.handlePacket(this.#now, p.arena, p.offset, p.length, p.gsoSize, p.checked),
    });
  }

  /** Whom a full batch goes to. */
  aim(to: Stack, now: Instant): void {
    this.#to = to;
    this.#now = now;
  }

  deliver(to: Stack, now: Instant): void {
    this.aim(to, now);
    this.flush();
    this.#coalescer.flush();
  }
}

/** Two stacks, and time that passes by the turn. */
class Pair {
  now = instantAt(1_000_000);
  readonly client: Stack;
  readonly server: Stack;

  constructor(
    readonly wires: readonly [Wire, Wire],
    readonly turnTime: typeof TURN,
    mtu: number,
    handlers: StackHandlers,
    connections: number,
  ) {
    const common = { mtu, crypto, limits: { connections }, localV4: IpAddress.parse('10.0.0.1')! };
    this.client = new Stack({ ...common, sink: wires[0], entropy: new SeededEntropy(1), handlers: {} });
    this.server = new Stack({ ...common, sink: wires[1], entropy: new SeededEntropy(2), handlers });
    this.#aim();
  }

  turn(): void {
    this.now = later(this.now, this.turnTime);
    this.#aim();
    this.client.flush(this.now);
    this.wires[0].deliver(this.server, this.now);
    this.server.flush(this.now);
    this.wires[1].deliver(this.client, this.now);
    for (const stack of [this.client, this.server]) {
      if ((stack.pollTimeout() ?? Number.POSITIVE_INFINITY) <= this.now) stack.handleTimeout(this.now);
    }
  }

  #aim(): void {
    const [a, b] = this.wires;
    if (a instanceof Packets) a.aim(this.server, this.now);
    if (b instanceof Packets) b.aim(this.client, this.now);
  }
}

const swallow: TcpHandlers = { onData: (_bytes, _offset, length) => length, onClosed: () => {} };
const data = new Uint8Array(65_536).map((_, i) => i * 7);

/** Gbit/s of one connection, of processor time; the best of the rounds. */
function stream(wires: readonly [Wire, Wire], family: 4 | 6, mtu: number, bytes: number): number {
  let received = 0;
  const handlers: StackHandlers = {
    onSyn: (request) =>
      void request.accept({
        onData: (_bytes, _offset, length) => {
          received += length;
          return length;
        },
        onClosed: () => {},
      }),
  };
  const pair = new Pair(wires, TURN, mtu, handlers, 8);
  const to = SocketAddress.parse(family === 4 ? '10.0.0.2:80' : '[fd00::2]:80')!;
  const from = SocketAddress.parse(family === 4 ? '10.0.0.1:50000' : '[fd00::1]:50000')!;
  const connection = pair.client.connect(pair.now, to, swallow, from);
  let best = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const start = received;
    const before = process.cpuUsage();
    while (received - start < bytes) {
      while (connection.write(data, 0, data.length) === data.length);
      pair.turn();
    }
    const cpu = process.cpuUsage(before);
    best = Math.max(best, ((received - start) * 8) / ((cpu.user + cpu.system) * 1000));
  }
  const retransmits = pair.client.counters.stack.get('tcp_retransmits');
  if (retransmits > 0) console.error(`${retransmits} retransmissions`);
  return best;
}

/** What comes back of each byte is one byte; an end that has been told of the other's end ends too. */
const echo: StackHandlers = {
  onSyn: (request) => {
    const connection: TcpConnection | undefined = request.accept({
      onData: (bytes, offset, length) => {
        connection?.write(bytes, offset, length);
        return length;
      },
      onPeerClosed: () => connection?.shutdownWrite(),
      onClosed: () => {},
    });
  },
};
const address = (n: number): SocketAddress => new SocketAddress(IpAddress.v4((0x0b000000 + n) >>> 0), 80);

/** Connections a second of processor time, both ends: opened, a byte each way, closed; then the next one. */
function sequential(count: number): number {
  const pair = new Pair([new Packets(false), new Packets(false)], TURN_OF_SHORT, MTU, echo, 65_536);
  const before = process.cpuUsage();
  for (let n = 0; n < count; n++) {
    let isOver = false;
    const connection = pair.client.connect(pair.now, address(n), {
      onConnected: () => void connection.write(data, 1, 1),
      onData: (_bytes, _offset, length) => {
        connection.shutdownWrite();
        return length;
      },
      onPeerClosed: () => {
        isOver = true;
      },
      onClosed: () => {},
    });
    while (!isOver) pair.turn();
  }
  const cpu = process.cpuUsage(before);
  return count / ((cpu.user + cpu.system) / 1e6);
}

/** Bytes of heap and buffers that an end holds which has moved a byte each way and is at rest. */
function idle(pairs: number): number {
  const memory = (): number => {
    // What the first frees is swept by the second.
    collect();
    collect();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const pair = new Pair([new Packets(false), new Packets(false)], TURN_OF_SHORT, MTU, echo, 2 * pairs);
  let answers = 0;
  const open = (n: number): void => {
    const connection = pair.client.connect(pair.now, address(n), {
      onConnected: () => void connection.write(data, 1, 1),
      onData: (_bytes, _offset, length) => {
        answers++;
        return length;
      },
      onClosed: () => {},
    });
  };
  open(0);
  while (answers < 1) pair.turn();
  const before = memory();
  for (let n = 1; n <= pairs; n++) {
    open(n);
    while (answers <= n) pair.turn();
  }
  for (const end = later(pair.now, REST); pair.now < end; ) pair.turn();
  const bytes = (memory() - before) / (2 * pairs);
  // Both stacks have to live until here.
  pair.turn();
  return bytes;
}

await asProgram(async () => {
  helpFirst(`node bench/netstack.mjs [--quick] [--json] [--out FILE]
  --quick  a fiftieth of everything: to see that it works, not how fast
  --json   prints the JSON document instead of the table
  --out    where the JSON document goes`);
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      out: { type: 'string' },
    },
  });
  const share = values.quick ? 50 : 1;
  const figures = new Figures(values);
  for (const family of [4, 6] as const) {
    const add = (id: string, label: string, make: () => Wire, mtu: number, bar?: Bar): void => {
      const gbits = stream([make(), make()], family, mtu, ROUND_BYTES / share);
      figures.add(`${id}-v${family}`, `${label}, IPv${family}`, 'Gbit/s', gbits, bar);
    };
    const [large, small] = [{ least: BARS.large }, { least: BARS.packets }];
    add('64k', 'segments of 64 KB, checksums on', () => new Packets(false), LARGEST_MTU, large);
    add('gro', 'MTU 1400, cut and coalesced, checksums on', () => new Packets(true), MTU, small);
    add('packets', 'MTU 1400, packet by packet, checksums on', () => new Packets(false), MTU, small);
    add('supers', 'MTU 1400, super-segments as they are, no checksums', () => new Supers(), MTU);
  }
  const rate = sequential(SHORT_CONNECTIONS / share);
  figures.add('connections', 'connections one after the other, a byte each way', '/s', rate, {
    least: BARS.connections,
  });
  figures.add('idle', 'an idle end of a connection', 'bytes', idle(IDLE_PAIRS / share), { most: BARS.idle });
  figures.finish(`node bench/netstack.mjs${values.quick ? ' --quick' : ''}`);
  for (const label of figures.missed) console.error(`below what is asked: ${label}`);
  return figures.missed.length === 0 ? 0 : 1;
});
