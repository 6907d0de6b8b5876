/**
 * The stack against Linux's TCP over a TUN device, with seeded loss, CE marks, reordering, duplicates and delay between them.
 *
 *   program in a namespace ─ kernel TCP ─ TUN ══ impairments ══ Stack ─ this test        one connection opened by each end
 *
 * Each end of each connection sends a header (seed, length) and so many bytes that follow from the seed, then FIN; each
 * verifies every byte. RUNS sets how many seeds are tried, RUN tries one. Kernel's controllers take turns with ours.
 */
import { afterEach, expect, it } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { type Instant, instantAt } from '../../../src/base/time.js';
import { Packetizer } from '../../../src/netstack/packetizer.js';
import { Stack } from '../../../src/netstack/stack.js';
import type { TcpConnection } from '../../../src/netstack/tcp/connection.js';
import type { TcpHandlers } from '../../../src/netstack/types.js';
import { Arena } from '../../../src/wire/arena.js';
import { markCongestion } from '../../../src/wire/ecn.js';
import { crypto } from '../../netstack/harness.js';
import { Bench, type Device, isRoot, ROOM, turn } from '../wire/namespaces.js';

const RUNS = Number(process.env['RUNS'] ?? 6);
const ONLY = process.env['RUN'];
const LIMIT_MS = 60_000;
const HEADER = 8;

const byteAt = (seed: number, i: number): number => ((i * 7 + seed) ^ (i >> 8) ^ (i >> 15)) & 255;

/** The stream of an end: header and content. */
function stream(seed: number, length: number): Uint8Array {
  const data = new Uint8Array(HEADER + length);
  const view = new DataView(data.buffer);
  view.setUint32(0, seed);
  view.setUint32(4, length);
  for (let i = 0; i < length; i++) data[HEADER + i] = byteAt(seed, i);
  return data;
}

/** Why `data` is not a whole stream as `stream` makes it; empty when it is. */
function verdict(data: Uint8Array): string {
  if (data.length < HEADER) return `only ${data.length} bytes`;
  const view = new DataView(data.buffer, data.byteOffset);
  const seed = view.getUint32(0);
  const length = view.getUint32(4);
  if (data.length !== HEADER + length) return `${data.length - HEADER} bytes of ${length}`;
  for (let i = 0; i < length; i++) if (data[HEADER + i] !== byteAt(seed, i)) return `byte ${i} differs`;
  return '';
}

/** The kernel's end: listens, connects, does with each connection what this test does, and prints the two verdicts. */
const program = (host: string, peer: string, seed: number, length: number): string => `
  const HEADER = ${HEADER};
  const byteAt = ${byteAt.toString()};
  const stream = ${stream.toString()};
  const verdict = ${verdict.toString()};
  const results = [];
  const serve = (socket, seed) => {
    const parts = [];
    socket.on('data', (part) => parts.push(part));
    socket.on('end', () => {
      results.push(verdict(new Uint8Array(Buffer.concat(parts))));
      if (results.length === 2) { console.log(JSON.stringify(results)); }
    });
    socket.on('error', (error) => { console.log(String(error)); process.exit(1); });
    socket.end(stream(seed, ${length}));
  };
  const net = require('node:net');
  const server = net.createServer({ allowHalfOpen: true }, (socket) => { server.close(); serve(socket, ${seed}); });
  server.listen(7001, '${host}', () => {
    const socket = net.connect({ port: 7000, host: '${peer}', allowHalfOpen: true });
    socket.on('connect', () => serve(socket, ${seed + 1}));
  });`;

class Peer implements TcpHandlers {
  connection: TcpConnection | undefined;
  readonly #parts: Uint8Array[] = [];
  #at = 0;
  closed: string | undefined;
  peerClosed = false;

  constructor(readonly data: Uint8Array) {}

  onConnected(): void {
    this.feed();
  }

  onWritable(): void {
    this.feed();
  }

  onData(bytes: Uint8Array, offset: number, length: number): number {
    this.#parts.push(bytes.slice(offset, offset + length));
    return length;
  }

  onPeerClosed(): void {
    this.peerClosed = true;
  }

  onClosed(reason: string): void {
    this.closed = reason;
  }

  feed(): void {
    const c = this.connection!;
    while (this.#at < this.data.length) {
      const n = c.write(this.data, this.#at, Math.min(this.data.length - this.#at, 20_000));
      if (n === 0) return;
      this.#at += n;
    }
    c.shutdownWrite();
  }

  get verdict(): string {
    return verdict(new Uint8Array(Buffer.concat(this.#parts)));
  }
}

/** Packets that wait for their time, in one direction. */
class Delay {
  readonly #waiting: { at: number; packet: Uint8Array }[] = [];

  push(at: number, packet: Uint8Array): void {
    let i = this.#waiting.length;
    while (i > 0 && this.#waiting[i - 1]!.at > at) i--;
    this.#waiting.splice(i, 0, { at, packet });
  }

  pop(now: number): Uint8Array | undefined {
    return (this.#waiting[0]?.at ?? Number.POSITIVE_INFINITY) <= now ? this.#waiting.shift()!.packet : undefined;
  }
}

const clock = (): Instant => instantAt(Number(process.hrtime.bigint() / 1000n));

let bench: Bench;
afterEach(() => bench.removeAll());

async function run(seed: number): Promise<void> {
  bench = new Bench();
  const random = new SeededEntropy(seed);
  const pick = <T>(...items: T[]): T => items[Math.floor(random.unit() * items.length)]!;
  const loss = pick(0, 0.005, 0.02, 0.05);
  const reorder = pick(0, 0.02, 0.2);
  const duplicate = pick(0, 0.02);
  const delay = pick(100, 2000, 10_000);
  const kernel = pick('bbr', 'reno');
  const congestion = pick('bbr' as const, 'cubic' as const, 'newreno' as const);
  const length = 50_000 + Math.floor(random.unit() * 400_000);
  const v4 = seed % 2 === 0;
  const tcp = { congestion, sack: random.unit() < 0.8, timestamps: random.unit() < 0.8, superSegment: pick(65_535, 1) };
  // Seeds that existed before keep their other choices: what is drawn later comes last.
  const ecn = pick('off' as const, 'classic' as const, 'accurate' as const);
  const kernelEcn = pick('0', '1', '2');
  const marks = pick(0, 0.02, 0.2);
  const report = `seed ${seed}: ${JSON.stringify({ loss, reorder, duplicate, delay, kernel, kernelEcn, marks, length, v4, ecn, ...tcp })}`;

  const namespace = bench.namespace();
  const device: Device = bench.device(namespace, false, '10.77.1.1/24', 'fd77:1::1/64');
  bench.sysctl(namespace, `net.ipv4.tcp_congestion_control=${kernel}`);
  bench.sysctl(namespace, `net.ipv4.tcp_ecn=${kernelEcn}`);
  const [host, peer] = v4 ? ['10.77.1.1', '10.77.1.2'] : ['fd77:1::1', 'fd77:1::2'];
  const [inbound, outbound] = [new Delay(), new Delay()];
  const impair = (to: Delay, now: number, packet: Uint8Array): void => {
    if (random.unit() < loss) return;
    if (random.unit() < marks) markCongestion(packet, 0);
    const late = random.unit() < reorder ? random.unit() * 3 * delay : 0;
    to.push(now + delay + late, packet);
    if (random.unit() < duplicate) to.push(now + delay + random.unit() * delay, packet);
  };

  let now = clock();
  const packetizer = new Packetizer(new Arena(1 << 18), 512, (batch) => {
    for (let i = 0; i < batch.count; i++) {
      const at = batch.table[2 * i]!;
      impair(outbound, now, batch.arena.bytes.slice(at, at + batch.table[2 * i + 1]!));
    }
  });
  const [accepted, opened] = [new Peer(stream(seed + 2, length)), new Peer(stream(seed + 3, length))];
  const socket = (ip: string, port: number) => SocketAddress.parse(v4 ? `${ip}:${port}` : `[${ip}]:${port}`)!;
  const stack: Stack = new Stack({
    mtu: 1500,
    sink: packetizer,
    entropy: new SeededEntropy(seed + 4),
    crypto,
    tcp: { ...tcp, ecn },
    handlers: {
      onSyn: (request) => {
        if (accepted.connection !== undefined) return;
        accepted.connection = request.accept(accepted);
        // The program listens before it connects.
        opened.connection = stack.connect(now, socket(host!, 7001), opened, socket(peer!, 50_000));
      },
    },
  });

  let printed: string | undefined;
  let failed: unknown;
  bench.node(namespace, program(host!, peer!, seed, length)).then(
    (text) => {
      printed = text;
    },
    (error: unknown) => {
      failed = error;
    },
  );
  const packet = new Arena(2048);
  const out = new Uint8Array(2048);
  const begun = performance.now();
  const over = (): boolean => printed !== undefined && accepted.closed !== undefined && opened.closed !== undefined;
  while (!over() && failed === undefined && performance.now() - begun < LIMIT_MS) {
    now = clock();
    for (let n = device.read(); n > 0; n = device.read())
      impair(inbound, now, device.arena.bytes.slice(ROOM, ROOM + n));
    for (let p = inbound.pop(now); p !== undefined; p = inbound.pop(now)) {
      packet.bytes.set(p);
      stack.handlePacket(now, packet, 0, p.length);
    }
    if ((stack.pollTimeout() ?? Number.POSITIVE_INFINITY) <= now) stack.handleTimeout(now);
    stack.flush(now);
    packetizer.flush();
    for (let p = outbound.pop(now); p !== undefined; p = outbound.pop(now)) {
      out.set(p);
      device.write(out, 0, p.length);
    }
    await turn();
  }
  expect(failed, report).toBeUndefined();
  expect(printed?.trim(), report).toBe('["",""]');
  expect([accepted.verdict, opened.verdict], report).toEqual(['', '']);
  expect([accepted.closed, opened.closed], report).toEqual(['finished', 'finished']);
}

const seeds = ONLY === undefined ? Array.from({ length: RUNS }, (_, i) => i + 1) : [Number(ONLY)];
it.runIf(isRoot).each(seeds)('transfers both ways over an impaired path, seed %i', run, 2 * LIMIT_MS);
