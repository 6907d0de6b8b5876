/**
 * The other end of a stack under test, by hand: writes segments field by field and reads what the stack sends.
 */
import { expect } from 'vitest';
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { type Duration, type Instant, instantAt, later } from '../../src/base/time.js';
import { Arena } from '../../src/wire/arena.js';
import { writeU16 } from '../../src/wire/bytes.js';
import { finish, pseudoSum, sumRange } from '../../src/wire/checksum.js';
import { ParsedPacket, parsePacket } from '../../src/wire/inner.js';
import { writeIpv4 } from '../../src/wire/ipv4.js';
import { writeIpv6 } from '../../src/wire/ipv6.js';
import { readTcpOptions, TcpOptions, writeTcp, writeTcpOptions } from '../../src/wire/tcp.js';
import { verifyChecksums } from '../../src/wire/verify.js';
import { addressWords } from '../support/packets.js';
import { Collector, Peer, type PeerOptions } from './harness.js';

export const REMOTE = '192.0.2.1';
export const LOCAL = '198.51.100.9';

export interface Fields {
  seq?: number;
  ack?: number;
  window?: number;
  data?: Uint8Array;
  mss?: number;
  scale?: number;
  sackPermitted?: boolean;
  /** [value, echo] */
  ts?: readonly [number, number];
  userTimeout?: number;
  /** Counters of the AccECN option in its order. */
  ecn?: { readonly order: number; readonly bytes: readonly number[] };
  sack?: readonly (readonly [number, number])[];
  from?: SocketAddress;
  to?: SocketAddress;
  /** Option bytes as they are, after the others; padded to a multiple of 4 with end-of-list. */
  options?: Uint8Array;
  urgent?: number;
  /** Traffic class: the last two bits are ECN. */
  tos?: number;
  /** Written over the header's data offset, in words. */
  dataOffset?: number;
}

/** What the stack sent, in numbers relative to the initial sequence numbers where those are known. */
export interface Seen {
  flags: string;
  seq: number;
  ack: number;
  window: number;
  data: Uint8Array;
  options: TcpOptions;
  /** Traffic class of the IP header. */
  tos: number;
  packet: Uint8Array;
}

/** E = ECE, C = CWR, N = AE. */
const FLAGS: Readonly<Record<string, number>> = { F: 1, S: 2, R: 4, P: 8, A: 16, U: 32, E: 64, C: 128, N: 256 };

export function ipPacket(
  from: IpAddress,
  to: IpAddress,
  protocol: number,
  message: Uint8Array,
  trafficClass = 0,
): Uint8Array {
  if (from.isV4) {
    const b = new Uint8Array(20 + message.length);
    writeIpv4(b, 0, {
      trafficClass,
      totalLength: b.length,
      identification: 7,
      dontFragment: true,
      moreFragments: false,
      fragmentOffset: 0,
      hopLimit: 64,
      protocol,
      source: from.w3,
      destination: to.w3,
    });
    b.set(message, 20);
    return b;
  }
  const b = new Uint8Array(40 + message.length);
  writeIpv6(b, 0, {
    trafficClass,
    flowLabel: 0,
    payloadLength: message.length,
    nextHeader: protocol,
    hopLimit: 64,
    ...addressWords(from, to),
  });
  b.set(message, 40);
  return b;
}

export function tcpPacket(from: SocketAddress, to: SocketAddress, flags: string, f: Fields): Uint8Array {
  const options = new TcpOptions();
  options.mss = f.mss ?? 0;
  options.windowScale = f.scale ?? -1;
  options.sackPermitted = f.sackPermitted ?? false;
  if (f.ts !== undefined) {
    options.hasTimestamps = true;
    options.timestampValue = f.ts[0];
    options.timestampEcho = f.ts[1];
  }
  options.sackCount = f.sack?.length ?? 0;
  f.sack?.forEach(([left, right], i) => {
    options.sackEdges[2 * i] = left;
    options.sackEdges[2 * i + 1] = right;
  });
  options.userTimeout = f.userTimeout ?? -1;
  options.ecnCount = f.ecn?.bytes.length ?? -1;
  options.ecnOrder = f.ecn?.order ?? 0;
  f.ecn?.bytes.forEach((n, i) => {
    options.ecnBytes[i] = n;
  });
  const scratch = new Uint8Array(60);
  const written = writeTcpOptions(scratch, 20, options);
  const extra = f.options ?? new Uint8Array(0);
  scratch.set(extra, 20 + written);
  const space = (written + extra.length + 3) & ~3;
  const bits = [...flags].reduce((m, c) => m | FLAGS[c]!, 0);
  writeTcp(scratch, 0, from.port, to.port, f.seq ?? 0, f.ack ?? 0, bits, f.window ?? 65_535, space);
  if (f.urgent !== undefined) writeU16(scratch, 18, f.urgent);
  if (f.dataOffset !== undefined) scratch[12] = f.dataOffset << 4;
  const data = f.data ?? new Uint8Array(0);
  const message = new Uint8Array(20 + space + data.length);
  message.set(scratch.subarray(0, 20 + space));
  message.set(data, 20 + space);
  const packet = ipPacket(from.ip, to.ip, 6, message, f.tos);
  const arena = new Arena(packet.length);
  arena.bytes.set(packet);
  const start = from.ip.isV4 ? 20 : 40;
  writeU16(
    arena.bytes,
    start + 16,
    finish(sumRange(arena, start, message.length, pseudoSum(arena.bytes, 0, 6, message.length))),
  );
  return arena.bytes.slice(0, packet.length);
}

/** Drives one stack. `irs` and `iss` are the stack's own and this end's initial numbers. */
export class WirePeer {
  now: Instant = instantAt(5_000_000);
  readonly peer: Peer;
  readonly app = new Collector();
  remote = new SocketAddress(IpAddress.parse(REMOTE)!, 40_000);
  local = new SocketAddress(IpAddress.parse(LOCAL)!, 80);
  /** Initial numbers: ours, and the stack's once its SYN was seen. */
  iss = 1_000_000;
  irs = 0;
  /** The timestamp the stack sent last. */
  lastTimestamp = 0;

  constructor(options: PeerOptions = {}) {
    this.peer = new Peer({ mtu: 1500, seed: 42, ...options });
  }

  get stack() {
    return this.peer.stack;
  }

  count(name: Parameters<typeof this.stack.counters.stack.get>[0]): number {
    return this.stack.counters.stack.get(name);
  }

  /** Sends a segment; `seq` and `ack` are relative to the initial numbers. Returns the drop reason. */
  send(flags: string, f: Fields = {}): number {
    const seq = (this.iss + (f.seq ?? 0)) >>> 0;
    const ack = flags.includes('A') ? (this.irs + (f.ack ?? 0)) >>> 0 : 0;
    const sack = f.sack?.map(([l, r]) => [(this.irs + l) >>> 0, (this.irs + r) >>> 0] as const);
    return this.peer.receive(
      this.now,
      tcpPacket(f.from ?? this.remote, f.to ?? this.local, flags, { ...f, seq, ack, ...(sack ? { sack } : {}) }),
    );
  }

  /** What the stack has sent since; checks every checksum. */
  take(): Seen[] {
    return this.peer.take(this.now).map((packet) => this.read(packet));
  }

  raw(): Uint8Array[] {
    return this.peer.take(this.now);
  }

  read(packet: Uint8Array): Seen {
    const arena = new Arena(packet.length);
    arena.bytes.set(packet);
    const p = new ParsedPacket();
    expect(parsePacket(arena.bytes, 0, packet.length, p)).toBe(0);
    expect(verifyChecksums(arena, p)).toBe(0);
    expect(p.protocol).toBe(6);
    const options = new TcpOptions();
    expect(readTcpOptions(packet, p.transportOffset + 20, p.transportOffset + p.tcpHeaderLength, options)).toBe(true);
    const flags = Object.keys(FLAGS)
      .filter((c) => (p.tcpFlags & FLAGS[c]!) !== 0)
      .join('');
    if (flags.includes('S')) this.irs = p.sequence;
    if (options.hasTimestamps) this.lastTimestamp = options.timestampValue;
    return {
      flags,
      seq: (p.sequence - this.irs) | 0,
      ack: flags.includes('A') ? (p.acknowledgment - this.iss) | 0 : 0,
      window: p.window,
      data: packet.slice(p.payloadOffset, p.payloadOffset + p.payloadLength),
      options,
      tos: p.trafficClass,
      packet,
    };
  }

  /** Lets `span` pass in steps, with due timers run; returns what was sent and when (µs after the start). */
  wait(span: Duration): (Seen & { at: number })[] {
    const start = this.now;
    const end = later(this.now, span);
    const seen: (Seen & { at: number })[] = [];
    const collect = (): void => {
      for (const s of this.take()) seen.push({ ...s, at: this.now - start });
    };
    collect();
    for (;;) {
      const next = this.stack.pollTimeout();
      if (next === undefined || next > end) break;
      if (next > this.now) this.now = next;
      this.stack.handleTimeout(this.now);
      collect();
    }
    this.now = end;
    return seen;
  }

  /** A passive open accepted at once; returns the SYN-ACK. Afterwards sequence 1 is the first byte both ways. */
  open(f: Fields = { mss: 1460, sackPermitted: true }): Seen {
    this.peer.handlers.onSyn = (request) => {
      this.app.connection = request.accept(this.app);
    };
    this.send('S', f);
    const [synAck] = this.take();
    this.send('A', {
      seq: 1,
      ack: 1,
      window: f.window ?? 65_535,
      ...(f.ts === undefined ? {} : { ts: [f.ts[0], synAck!.options.timestampValue] as const }),
    });
    expect(this.take()).toEqual([]);
    expect(this.app.connected).toBe(1);
    return synAck!;
  }

  /** An active open to the remote end; returns the SYN. Nothing is answered yet. */
  connect(): Seen {
    this.app.connection = this.stack.connect(this.now, this.remote, this.app, this.local);
    const [syn] = this.take();
    return syn!;
  }
}

/** Flags and relative numbers, for comparisons that read well: `FA 1:1 ack 5`. */
export const brief = (s: Seen): string => `${s.flags} ${s.seq}:${s.seq + s.data.length} ack ${s.ack}`;
