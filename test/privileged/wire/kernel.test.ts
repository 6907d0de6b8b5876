/**
 * Segmentation and coalescing against the kernel.
 *
 *   capture    client ─ TUN a (offload) ══ test ══ TUN b (offload) ─ server       a real TCP stream's super-segments
 *   compare    super-segment ─► TUN in (offload) ─ kernel forwards ─ TUN out (no offload) ─► its segments = ours?
 *   coalesce   client ─ TUN a ══ segment, coalesce ══ TUN b ─ server              the server gets the exact bytes
 */
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Arena } from '../../../src/wire/arena.js';
import { Coalescer } from '../../../src/wire/gro.js';
import { segment } from '../../../src/wire/gso.js';
import { GSO_NONE, GSO_UDP_L4, readVnet, VNET_NEEDS_CSUM, VnetFields, writeVnet } from '../../../src/wire/vnet.js';
import { fixChecksums, makePartial, packet, pattern } from '../../wire/packets.js';
import { Bench, type Device, isRoot, ROOM, turn } from './namespaces.js';

const LENGTH = 4 << 20;
const PORT = 7000;
const segments = new Arena(1 << 18);
const table = new Uint32Array(2 * 256);

let bench: Bench;
beforeEach(() => {
  bench = new Bench();
});
afterEach(() => bench.removeAll());

/** Prints length and SHA-256 of what the first connection sends. */
const server = (family: 4 | 6): string => `
  const hash = require('node:crypto').createHash('sha256');
  let length = 0;
  const server = require('node:net').createServer((socket) => {
    socket.on('data', (data) => { length += data.length; hash.update(data); });
    socket.on('end', () => { console.log(length, hash.digest('hex')); socket.end(); server.close(); });
  });
  server.listen(${PORT}, '${family === 4 ? '0.0.0.0' : '::'}');`;

/** Sends LENGTH bytes of a pattern, in writes of odd sizes. */
const client = (to: string): string => `
  const data = Buffer.alloc(${LENGTH});
  for (let i = 0; i < data.length; i++) data[i] = (i * 7) ^ (i >> 8) ^ (i >> 15);
  const connect = () => {
    const socket = require('node:net').connect(${PORT}, '${to}');
    socket.on('error', () => setTimeout(connect, 20));
    socket.on('connect', () => {
      let at = 0;
      const more = () => {
        while (at < data.length) {
          const n = 1 + (at * 13) % 200000;
          if (!socket.write(data.subarray(at, at += n))) return socket.once('drain', more);
        }
        socket.end();
      };
      more();
    });
    socket.on('data', () => {});
  };
  connect();`;

function expected(): string {
  const data = new Uint8Array(LENGTH);
  for (let i = 0; i < data.length; i++) data[i] = (i * 7) ^ (i >> 8) ^ (i >> 15);
  return `${LENGTH} ${createHash('sha256').update(data).digest('hex')}`;
}

interface Pair {
  readonly a: Device;
  readonly b: Device;
  readonly sender: string;
  readonly receiver: string;
}

function pair(): Pair {
  const sender = bench.namespace();
  const receiver = bench.namespace();
  const a = bench.device(sender, true, '10.77.1.1/24', 'fd77:1::1/64');
  const b = bench.device(receiver, true, '10.77.1.2/24', 'fd77:1::2/64');
  return { a, b, sender, receiver };
}

const target = (family: 4 | 6): string => (family === 4 ? '10.77.1.2' : 'fd77:1::2');

/** Moves packets between two devices with `forward` until the programs have ended; gives what they printed. */
async function pump(
  programs: Promise<string>[],
  ways: [Device, (device: Device, length: number) => void][],
): Promise<string[]> {
  let over = false;
  const all = Promise.all(programs).finally(() => {
    over = true;
  });
  all.catch(() => {});
  while (!over) {
    for (const [device, forward] of ways) {
      for (let k = 0; k < 32; k++) {
        const length = device.read();
        if (length === 0) break;
        forward(device, length);
      }
    }
    await turn();
  }
  return all;
}

interface Captured {
  readonly vnet: VnetFields;
  readonly bytes: Uint8Array;
}

/** One direction of a real TCP connection as the kernel hands it to a device with offload. */
async function capture(family: 4 | 6): Promise<Captured[]> {
  const { a, b, sender, receiver } = pair();
  const captured: Captured[] = [];
  const ways: [Device, (device: Device, length: number) => void][] = [
    [
      a,
      (device, length) => {
        const vnet = new VnetFields();
        readVnet(device.arena.bytes, ROOM - 10, vnet);
        captured.push({ vnet, bytes: device.arena.bytes.slice(ROOM, ROOM + length) });
        b.write(device.arena.bytes, ROOM - 10, length + 10);
      },
    ],
    [b, (device, length) => a.write(device.arena.bytes, ROOM - 10, length + 10)],
  ];
  const [printed] = await pump(
    [bench.node(receiver, server(family)), bench.node(sender, client(target(family)))],
    ways,
  );
  expect(printed!.trim()).toBe(expected());
  return captured;
}

/** A router between a device with offload, to write to, and one without, to read from. */
function router(): { readonly into: Device; readonly from: Device } {
  const namespace = bench.namespace();
  bench.sysctl(namespace, 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
  const into = bench.device(namespace, true, '10.77.2.1/24', 'fd77:2::1/64');
  const from = bench.device(namespace, false, '10.77.1.9/24', 'fd77:1::9/64');
  bench.sysctl(namespace, 'net.ipv4.conf.all.rp_filter=0', `net.ipv4.conf.${into.name}.rp_filter=0`);
  return { into, from };
}

/** What the kernel makes of a packet with this virtio-net header while forwarding it. */
async function kernelSegments(way: ReturnType<typeof router>, { vnet, bytes }: Captured): Promise<Uint8Array[]> {
  const sent = new Uint8Array(10 + bytes.length);
  writeVnet(sent, 0, vnet);
  sent.set(bytes, 10);
  // Forwarding takes one off the hop limit.
  if (bytes[0]! >>> 4 === 4) {
    sent[10 + 8]!++;
    const header = sent.slice(10, 30);
    header[10] = header[11] = 0;
    let sum = 0;
    for (let i = 0; i < 20; i += 2) sum += (header[i]! << 8) | header[i + 1]!;
    sum = (sum & 0xffff) + (sum >>> 16);
    sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
    sent[20] = sum >>> 8;
    sent[21] = sum;
  } else sent[10 + 7]!++;
  way.into.write(sent, 0, sent.length);
  const out: Uint8Array[] = [];
  // Neighbour and listener reports of IPv6 leave through the same device.
  const isOurs = (p: Uint8Array): boolean => (p[0]! >>> 4 === 4 ? p[9] !== 2 : p[6] === 6 || p[6] === 17);
  for (let idle = 0; idle < 20; idle++) {
    for (let length = way.from.read(); length > 0; length = way.from.read()) {
      const p = way.from.arena.bytes.slice(ROOM, ROOM + length);
      if (isOurs(p)) out.push(p);
      idle = 0;
    }
    await turn();
  }
  return out;
}

function ourSegments({ vnet, bytes }: Captured): Uint8Array[] {
  const source = new Arena(bytes.length + 4);
  source.bytes.set(bytes, 4);
  const count = segment(source, 4, bytes.length, vnet, segments, 0, table, 0);
  expect(count).toBeGreaterThan(0);
  return Array.from({ length: count }, (_, i) =>
    segments.bytes.slice(table[i * 2]!, table[i * 2]! + table[i * 2 + 1]!),
  );
}

/** The one super-segment that the coalescer makes of these packets, with its virtio-net header. */
function coalesced(packets: Uint8Array[]): Captured {
  const out: Captured[] = [];
  const coalescer = new Coalescer({
    emit(p) {
      const vnet = new VnetFields();
      readVnet(p.arena.bytes, p.writeVnetHeader(), vnet);
      out.push({ vnet, bytes: p.arena.bytes.slice(p.offset, p.offset + p.length) });
    },
  });
  for (const bytes of packets) coalescer.push(new Arena(bytes.slice()), 0, bytes.length);
  coalescer.flush();
  expect(out.length).toBe(1);
  return out[0]!;
}

const hex = (list: Uint8Array[]): string[] => list.map((bytes) => Buffer.from(bytes).toString('hex'));

describe.skipIf(!isRoot)('against the kernel', () => {
  for (const family of [4, 6] as const) {
    it(`IPv${family}: a real TCP stream's super-segments become the kernel's own segments, byte by byte`, async () => {
      const captured = await capture(family);
      const supers = captured.filter((c) => c.vnet.gsoType !== GSO_NONE);
      expect(supers.length).toBeGreaterThan(10);
      expect(Math.max(...supers.map((c) => c.bytes.length))).toBeGreaterThan(20_000);
      const partial = captured.filter((c) => c.vnet.gsoType === GSO_NONE && c.vnet.flags & VNET_NEEDS_CSUM);
      expect(partial.length).toBeGreaterThan(1);
      const way = router();
      let compared = 0;
      for (const one of [...supers.slice(0, 80), ...supers.slice(-20), ...partial.slice(0, 20)]) {
        const ours = ourSegments(one);
        const theirs = await kernelSegments(way, one);
        expect(hex(ours)).toEqual(hex(theirs));
        if (one.vnet.gsoType !== GSO_NONE) {
          expect(hex(await kernelSegments(way, coalesced(ours)))).toEqual(hex(theirs));
        }
        compared += ours.length;
      }
      expect(compared).toBeGreaterThan(100);
    });

    it(`IPv${family}: UDP super-datagrams and ECN, FIN and odd sizes likewise`, async () => {
      const way = router();
      const shape = { family, trafficClass: 2, sourcePort: 5000, destinationPort: 6000 } as const;
      const csumStart = family === 4 ? 20 : 40;
      const cases: Captured[] = [];
      for (const size of [1, 2, 999, 1400]) {
        const payload = pattern(size * 3 + Math.ceil(size / 2));
        const udp = makePartial(addressed(packet({ ...shape, udp: true, payload })));
        cases.push({
          bytes: udp,
          vnet: Object.assign(new VnetFields(), {
            flags: 1,
            gsoType: GSO_UDP_L4,
            headerLength: csumStart + 8,
            gsoSize: size,
            csumStart,
            csumOffset: 6,
          }),
        });
        const tcp = makePartial(
          addressed(
            packet({
              ...shape,
              payload,
              flags: 0xd9,
              sequence: 0xfffffff0,
              identification: 0xfffe,
              options: new Uint8Array([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]),
            }),
          ),
        );
        cases.push({
          bytes: tcp,
          vnet: Object.assign(new VnetFields(), {
            flags: 1,
            gsoType: (family === 4 ? 1 : 4) | 0x80,
            headerLength: csumStart + 32,
            gsoSize: size,
            csumStart,
            csumOffset: 16,
          }),
        });
      }
      for (const one of cases) {
        const ours = ourSegments(one);
        expect(ours.length).toBe(4);
        expect(hex(ours)).toEqual(hex(await kernelSegments(way, one)));
      }
    });

    it(`IPv${family}: a stream cut up and coalesced again arrives byte by byte`, async () => {
      const { a, b, sender, receiver } = pair();
      const seen = { super: 0, joined: 0, packets: 0 };
      const way = (to: Device): ((device: Device, length: number) => void) => {
        const vnet = new VnetFields();
        const coalescer = new Coalescer({
          emit(p) {
            if (p.segments > 1) {
              seen.super++;
              seen.joined += p.segments;
            }
            to.write(p.arena.bytes, p.writeVnetHeader(), p.length + 10);
          },
        });
        return (device, length) => {
          readVnet(device.arena.bytes, ROOM - 10, vnet);
          const count = segment(device.arena, ROOM, length, vnet, segments, 0, table, 0);
          expect(count).toBeGreaterThan(0);
          for (let i = 0; i < count; i++) {
            expect(table[i * 2 + 1]).toBeLessThanOrEqual(1500);
            coalescer.push(segments, table[i * 2]!, table[i * 2 + 1]!);
          }
          coalescer.flush();
          seen.packets += count;
        };
      };
      const programs = [bench.node(receiver, server(family)), bench.node(sender, client(target(family)))];
      const [printed] = await pump(programs, [
        [a, way(b)],
        [b, way(a)],
      ]);
      expect(printed!.trim()).toBe(expected());
      expect(seen.joined / seen.super).toBeGreaterThan(10);
      expect(seen.packets).toBeGreaterThan(LENGTH / 1500);
      for (const namespace of [sender, receiver]) {
        expect(bench.counter(namespace, 'Tcp', 'InCsumErrors')).toBe(0);
        expect(bench.counter(namespace, 'Tcp', 'InErrs')).toBe(0);
      }
    });

    it(`IPv${family}: coalesced datagrams reach a socket one by one`, async () => {
      const { b, receiver } = pair();
      const sizes = [700, 700, 700, 700, 200, 31, 31, 30];
      const program = `
        const socket = require('node:dgram').createSocket('udp${family}');
        const got = [];
        socket.on('message', (data) => { got.push(data.toString('hex')); if (got.length === ${sizes.length}) { console.log(got.join(' ')); socket.close(); } });
        socket.bind(${PORT}, '${target(family)}');`;
      const done = bench.node(receiver, program);
      let supers = 0;
      const coalescer = new Coalescer({
        emit(p) {
          if (p.segments > 1) supers++;
          b.write(p.arena.bytes, p.writeVnetHeader(), p.length + 10);
        },
      });
      const datagrams = sizes.map((size, i) =>
        addressed(packet({ family, udp: true, payload: pattern(size, i), sourcePort: 9, destinationPort: PORT })),
      );
      let over = false;
      void done.finally(() => {
        over = true;
      });
      // The receiver is listening once it stops answering with port unreachable: send until it has all eight.
      let printed: string | undefined;
      void done.then((text) => {
        printed = text;
      });
      while (!over) {
        if (await isBound(receiver)) {
          for (const bytes of datagrams) {
            const source = new Arena(bytes.slice());
            coalescer.push(source, 0, bytes.length);
          }
          coalescer.flush();
          await done;
        }
        while (b.read() > 0);
        await turn();
      }
      expect(printed!.trim().split(' ')).toEqual(sizes.map((size, i) => Buffer.from(pattern(size, i)).toString('hex')));
      expect(supers).toBe(2);
    });
  }
});

/** Whether the namespace has a UDP socket on PORT. */
async function isBound(namespace: string): Promise<boolean> {
  const port = PORT.toString(16).toUpperCase().padStart(4, '0');
  const text = await bench.node(
    namespace,
    `for (const f of ['udp', 'udp6']) process.stdout.write(require('node:fs').readFileSync('/proc/net/' + f, 'utf8'))`,
  );
  return text.includes(`:${port} `);
}

/** The packet with addresses of the tests' networks and right checksums: from 10.77.2.5 to 10.77.1.2, or the same in IPv6. */
function addressed(bytes: Uint8Array): Uint8Array {
  if (bytes[0]! >>> 4 === 4) {
    bytes.set([10, 77, 2, 5, 10, 77, 1, 2], 12);
  } else {
    bytes.set(
      [0xfd, 0x77, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0xfd, 0x77, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
      8,
    );
  }
  fixChecksums(bytes);
  return bytes;
}
