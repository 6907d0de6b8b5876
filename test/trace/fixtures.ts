/** Hops and runs made up for tests. */
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { type Clock, instantAt, wallAt } from '../../src/base/time.js';
import type { Hop, HopReply, TraceRun } from '../../src/trace/types.js';

export const ip = (text: string): IpAddress => IpAddress.parse(text)!;
export const address = (text: string): SocketAddress => SocketAddress.parse(text)!;

export function reply(from: string, rtt: number, more: Partial<HopReply> = {}): HopReply {
  return {
    from: ip(from),
    kind: 'time_exceeded',
    rtt,
    icmp: { type: 11, code: 0 },
    nat: false,
    probe: 0,
    flow: 0,
    isDestination: false,
    ...more,
  };
}

/** Without an address: a silent hop. */
export function hop(ttl: number, from?: string, rtt = 0, more: Partial<HopReply> = {}): Hop {
  return { ttl, sent: 1, replies: from === undefined ? [] : [reply(from, rtt, more)], rateLimited: false };
}

/** The run's last hop answers as the destination when its address is the destination's. */
export function run(hops: readonly Hop[], more: Partial<TraceRun> = {}): TraceRun {
  const destination = more.destination ?? address('198.51.100.2:33434');
  const reached = hops.at(-1)?.replies[0]?.from.equals(destination.ip) ?? false;
  return {
    source: address('192.0.2.1:47811'),
    destination,
    hops: hops.map((one, i) =>
      reached && i === hops.length - 1
        ? { ...one, replies: one.replies.map((answer) => ({ ...answer, isDestination: true })) }
        : one,
    ),
    reached,
    reason: reached ? 'destination' : 'max_ttl',
    privilege: 'raw',
    ...more,
  };
}

/** Follows the globals, so that a test's fake timers move it; runs by itself otherwise. */
export const timerClock: Clock = {
  now: () => instantAt(performance.now() * 1_000),
  wall: () => wallAt(Date.now()),
};
