/**
 * Networks for the simulated tracer: a chain of routers with a target behind it, and what may go wrong there; and options with
 * the defaults that tests change.
 */
import { IpAddress } from '../../../src/base/address.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { Millis } from '../../../src/base/time.js';
import { Tracer } from '../../../src/trace/engine/tracer.js';
import type { TraceEvent, TraceOptions, TraceRun } from '../../../src/trace/types.js';
import { icmp, ip, tcp, timeExceeded, tooBig, unreachable } from '../net/packets.js';
import { type Delivery, type Network, type SentProbe, SimIo } from './sim-io.js';

export const LOCAL = ip('192.0.2.1');
export const TARGET = ip('203.0.113.9');
export const router = (ttl: number, branch = 0): IpAddress =>
  IpAddress.v4((0x0a000001 + ttl * 256 + branch * 65_536) >>> 0);

/** Milliseconds there and back to a hop; each link takes 10 in each direction. */
export const rtt = (ttl: number): number => ttl * 20;

/** A chain with the target at TTL `length`; `router(ttl)` before. */
export function chain(
  length: number,
  change: (probe: SentProbe) => readonly Delivery[] | number | undefined = () => undefined,
): Network {
  return (probe) => change(probe) ?? (probe.ttl < length ? [exceeded(probe)] : [arrived(probe, length)]);
}

export function exceeded(probe: SentProbe, from = router(probe.ttl)): Delivery {
  return { after: rtt(probe.ttl), packet: timeExceeded({ from, to: LOCAL }, probe.bytes) };
}

/** What a host says to a probe for which nobody listens. */
export function arrived(probe: SentProbe, ttl: number, from = TARGET): Delivery {
  const { packet, bytes } = probe;
  const ends = { from, to: LOCAL };
  const after = rtt(ttl);
  if (packet.protocol === 17) return { after, packet: unreachable(ends, bytes, 3) };
  if (packet.protocol === 1) {
    const view = new DataView(bytes.buffer);
    return { after, packet: icmp(ends, 0, 0, view.getUint32(24), bytes.subarray(28)) };
  }
  const { sourcePort, destinationPort, sequence } = packet;
  return {
    after,
    packet: tcp(ends, {
      sourcePort: destinationPort,
      destinationPort: sourcePort,
      sequence: 1,
      acknowledgment: (sequence + 1) >>> 0,
      flags: 0x12,
    }),
  };
}

/** The answer of the router before a narrow link. */
export function tooBigFor(probe: SentProbe, ttl: number, mtu: number): Delivery {
  return { after: rtt(ttl), packet: tooBig({ from: router(ttl), to: LOCAL }, probe.bytes, mtu) };
}

export function options(change: Partial<TraceOptions> = {}): TraceOptions {
  return {
    protocol: 'udp',
    tcpMethod: 'syn',
    destination: TARGET,
    port: 33_434,
    minTtl: 1,
    maxTtl: 30,
    timeout: Millis(1_000),
    sendDelay: Millis(50),
    repeats: 1,
    paris: false,
    tos: 0,
    gapLimit: 0,
    rate: 0,
    pmtu: false,
    privilege: 'raw',
    windowsDriver: false,
    ...change,
  };
}

export interface Simulated {
  readonly io: SimIo;
  readonly tracer: Tracer;
  /** One run to its end. */
  trace(change?: Partial<TraceOptions>): Promise<TraceRun>;
  /** One run's events to its end. */
  events(change?: Partial<TraceOptions>): Promise<TraceEvent[]>;
}

export function simulate(network: Network): Simulated {
  const io = new SimIo(LOCAL, network);
  const tracer = new Tracer(io, new SeededEntropy(7));
  const collect = async (change: Partial<TraceOptions>): Promise<TraceEvent[]> => {
    const out: TraceEvent[] = [];
    for await (const event of tracer.run(options(change), new AbortController().signal)) out.push(event);
    return out;
  };
  const events = (change: Partial<TraceOptions> = {}): Promise<TraceEvent[]> => io.drive(collect(change));
  return {
    io,
    tracer,
    events,
    trace: async (change) => {
      const last = (await events(change)).at(-1);
      if (last?.kind !== 'done') throw new Error('no result');
      return last.run;
    },
  };
}

/** Addresses by TTL, `*` for silence. */
export const shown = (run: TraceRun): string[] => run.hops.map(({ replies }) => replies[0]?.from.toString() ?? '*');
