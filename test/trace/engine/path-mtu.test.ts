import { describe, expect, it } from 'vitest';
import { Millis } from '../../../src/base/time.js';
import { EMSGSIZE } from '../../../src/os/io.js';
import { sizeBelow } from '../../../src/trace/engine/path-mtu.js';
import { chain, shown, simulate, tooBigFor } from './paths.js';
import type { Network } from './sim-io.js';

/** Five hops; the link behind router `at` takes packets of `mtu` bytes. `told`: what the router says of it, undefined: nothing. */
const narrow = (at: number, mtu: number, told: number | undefined = mtu): Network =>
  chain(5, (probe) => {
    if (probe.ttl <= at || probe.bytes.length <= mtu) return undefined;
    return told === undefined ? [] : [tooBigFor(probe, at, told)];
  });
const mtus = async (network: Network, change = {}, deviceMtu = 1500): Promise<(number | undefined)[]> => {
  const simulated = simulate(network);
  simulated.io.mtu = deviceMtu;
  const run = await simulated.trace({ pmtu: true, sendDelay: Millis(5), ...change });
  return run.hops.map(({ mtu }) => mtu);
};

describe.each(['udp', 'icmp', 'tcp'] as const)('path MTU with %s', (protocol) => {
  it('is the device’s on a path without narrow links', async () => {
    expect(await mtus(chain(4), { protocol })).toEqual([1500, 1500, 1500, 1500]);
  });

  it('is what the router before a narrow link says, behind it', async () => {
    expect(await mtus(narrow(2, 1400), { protocol })).toEqual([1500, 1500, 1400, 1400, 1400]);
  });

  it('is found where nobody says anything', async () => {
    const silent: Network = chain(5, (probe) => (probe.ttl > 3 && probe.bytes.length > 1420 ? [] : undefined));
    expect(await mtus(silent, { protocol })).toEqual([1500, 1500, 1500, 1420, 1420]);
  });
});

describe('path MTU', () => {
  it('goes down step by step', async () => {
    const network = chain(5, (probe) => {
      if (probe.ttl > 2 && probe.bytes.length > 1480) return [tooBigFor(probe, 2, 1480)];
      if (probe.ttl > 4 && probe.bytes.length > 1300) return [tooBigFor(probe, 4, 1300)];
      return undefined;
    });
    expect(await mtus(network)).toEqual([1500, 1500, 1480, 1480, 1300]);
  });

  it('believes no MTU that is none: an old router’s 0, or one that grows', async () => {
    for (const told of [0, 20, 1500, 9000])
      expect(await mtus(narrow(2, 1400, told))).toEqual([1500, 1500, 1400, 1400, 1400]);
  });

  it('begins below what the device refuses', async () => {
    const network = chain(3, ({ bytes }) => (bytes.length > 1492 ? -EMSGSIZE : undefined));
    expect(await mtus(network)).toEqual([1492, 1492, 1492]);
  });

  it('ends when nothing small enough passes, and tells nothing of silent hops', async () => {
    expect(await mtus(narrow(2, 100, 0))).toEqual([1500, 1500, undefined, undefined, undefined]);
    const silent = chain(4, ({ ttl }) => (ttl === 2 ? [] : undefined));
    expect(await mtus(silent)).toEqual([1500, undefined, 1500, 1500]);
  });

  it('does not touch what the run counted', async () => {
    const run = await simulate(narrow(2, 1400)).trace({ pmtu: true, repeats: 2, sendDelay: Millis(5) });
    expect(run.hops.map(({ sent, replies }) => [sent, replies.length])).toEqual(new Array(5).fill([2, 2]));
    expect(shown(run)).toHaveLength(5);
  });
});

describe('sizes to fall back to', () => {
  it('go down to what every path carries', () => {
    expect([9001, 1500, 1421, 1280, 577, 576].map((size) => sizeBelow(size, 4))).toEqual([
      9000, 1492, 1420, 1006, 576, 0,
    ]);
    expect([1500, 1281, 1280].map((size) => sizeBelow(size, 6))).toEqual([1492, 1280, 0]);
  });
});
