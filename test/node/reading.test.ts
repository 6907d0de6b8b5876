/** What a turn takes before it sends: no more questions to the kernel than there is likely to be something. */
import { expect, test } from 'vitest';
import { Counters } from '../../src/base/counters.js';
import { DROP_REASONS, Drop } from '../../src/base/drop.js';
import { type Instant, later, Millis } from '../../src/base/time.js';
import type { Outbound } from '../../src/node/outbound.js';
import { driveNode, type NodeEndpoints } from '../../src/node/thread-setup.js';
import { TunPort } from '../../src/node/tun-port.js';
import { READABLE, type UdpSocket } from '../../src/os/io.js';
import { udpPacket } from '../support/packets.js';

import { SimClock, SimReactor } from '../support/sim-reactor.js';
import { SimTun } from '../support/sim-tun.js';

const ENTRIES = 16;

/** How often a turn asks for a batch, when the socket has batches of these sizes. */
function asked(...sizes: number[]): number {
  const reactor = new SimReactor(new SimClock());
  const fd = reactor.register({ readiness: () => READABLE });
  const socket = { fd, rx: { offsets: new Uint32Array(ENTRIES) }, isBlocked: false } as unknown as UdpSocket;
  const none = { setWallTime: () => {} };
  const endpoints = { relay: none, links: none, keepAlive: { turn: () => {}, due: undefined } };
  let calls = 0;
  driveNode(reactor, [socket], endpoints as unknown as NodeEndpoints, {
    receive: () => sizes[calls++] ?? 0,
    writable: () => {},
    turn: () => undefined,
    suspect: () => {},
  });
  reactor.turn();
  return calls;
}

test('a batch that is not full ends the reading of a turn, and so do four full ones', () => {
  expect(asked(1)).toBe(1);
  expect(asked(0)).toBe(1);
  expect(asked(-5)).toBe(1);
  expect(asked(ENTRIES, 3)).toBe(2);
  expect(asked(ENTRIES, ENTRIES, ENTRIES, ENTRIES, ENTRIES)).toBe(4);
});

test('the first packet after a pause goes on alone, those right behind it together', () => {
  const tun = new SimTun(new SimReactor(new SimClock()));
  const drops = new Counters(DROP_REASONS);
  const taken: Instant[] = [];
  const port = new TunPort(
    { tun, outbound: {} as Outbound, drops, innerMtu: 1280 },
    {
      onPacket: (now) => {
        taken.push(now);
        return Drop.none;
      },
    },
  );
  const packet = udpPacket({ from: '10.0.0.1', to: '10.0.0.2' }, 1, 2, 'x');
  const start = later(0 as Instant, Millis(5));
  const read = (now: Instant, packets: number): boolean => {
    taken.length = 0;
    for (let i = 0; i < packets; i++) tun.send(packet);
    return port.read(now);
  };
  expect(read(start, 3)).toBe(true);
  expect(taken.length).toBe(1);
  // The device is still readable: the next turn, at once.
  expect(read(later(start, Millis(0.1)), 0)).toBe(false);
  expect(taken.length).toBe(2);
  expect(read(later(start, Millis(1)), 4)).toBe(false);
  expect(taken.length).toBe(4);
  expect(read(later(start, Millis(2)), 2)).toBe(true);
  expect(taken.length).toBe(1);
});
