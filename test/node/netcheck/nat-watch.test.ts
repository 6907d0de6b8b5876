/** When a running node looks at its NAT, how much of it at once, and that a look at another network counts for nothing. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { IdleLifetimes } from '../../../src/node/keep-alive.js';
import { NatWatch, type NatWatchOwner } from '../../../src/node/netcheck/nat-watch.js';
import type { NetcheckOptions, NetcheckReport } from '../../../src/node/netcheck/report.js';
import { SystemEntropy } from '../../../src/os/entropy.js';
import { at } from '../../support/sim-nodes.js';

interface Look {
  readonly measures: boolean;
  end(name: string, udp?: boolean): Promise<unknown>;
}

const looks: Look[] = [];
const eases: string[] = [];
const lifetimes: IdleLifetimes[] = [];
const owner: NatWatchOwner = {
  onEase: (ease) => void eases.push(ease),
  onLifetimes: (told) => void lifetimes.push(told),
};
vi.mock('../../../src/node/netcheck/report.js', () => ({
  netcheck: ({ lifetimeSpans, isBackground }: NetcheckOptions) =>
    new Promise<NetcheckReport>((resolve) => {
      expect(isBackground).toBe(true);
      looks.push({
        measures: lifetimeSpans !== undefined,
        end: (name, udp = true) => {
          resolve({
            udp,
            ipv4: {
              name,
              ease: name === 'symmetric' ? 'strict' : 'port',
              lifetime: lifetimeSpans && { atLeast: 10, lessThan: 15 },
            },
            ipv6: undefined,
          } as unknown as NetcheckReport);
          return vi.advanceTimersByTimeAsync(0);
        },
      });
    }),
}));

beforeEach(() => {
  looks.length = 0;
  eases.length = 0;
  lifetimes.length = 0;
  vi.useFakeTimers();
});
afterEach(() => void vi.useRealTimers());

const RELAY = at('192.0.2.1:4433');
const pass = (seconds: number): Promise<unknown> => vi.advanceTimersByTimeAsync(seconds * 1000);
const name = (watch: NatWatch): string | undefined => watch.status?.ipv4?.name;

it('looks three seconds after the last change, then measures the lifetime', async () => {
  const watch = new NatWatch(new SystemEntropy(), owner);
  watch.networkChanged();
  await pass(60);
  expect(looks).toHaveLength(0);
  watch.setRelays([RELAY]);
  await pass(2);
  watch.networkChanged();
  watch.setRelays([at('192.0.2.1:4433')]);
  await pass(2.9);
  expect(looks).toHaveLength(0);
  await pass(0.1);
  expect(looks.map(({ measures }) => measures)).toEqual([false]);
  expect(watch.status).toBeUndefined();
  await looks[0]!.end('symmetric');
  expect(name(watch)).toBe('symmetric');
  expect(eases).toEqual(['strict']);
  expect(looks.map(({ measures }) => measures)).toEqual([false, true]);
  expect(lifetimes).toEqual([]);
  await looks[1]!.end('symmetric, measured');
  expect(lifetimes).toEqual([{ ipv4: 10, ipv6: undefined }]);
  expect(name(watch)).toBe('symmetric, measured');
  await pass(3600);
  expect(looks).toHaveLength(2);
});

it('takes nothing from a look that ends on another network, and measures one at a time', async () => {
  const watch = new NatWatch(new SystemEntropy(), owner);
  watch.setRelays([RELAY]);
  await pass(3);
  watch.networkChanged();
  await looks[0]!.end('old');
  expect(watch.status).toBeUndefined();
  await pass(3);
  await looks[1]!.end('new');
  expect(name(watch)).toBe('new');
  for (let change = 0; change < 10; change++) {
    watch.networkChanged();
    await pass(3);
    await looks.at(-1)!.end(`change ${change}`);
  }
  expect(looks.filter(({ measures }) => measures)).toHaveLength(1);
  expect(name(watch)).toBe('change 9');
  // Measured on a network that is gone: once more, on this one.
  await looks.find(({ measures }) => measures)!.end('stale');
  expect(lifetimes).toEqual([]);
  expect(name(watch)).toBe('change 9');
  expect(looks.filter(({ measures }) => measures)).toHaveLength(2);
  await looks.at(-1)!.end('measured');
  expect(name(watch)).toBe('measured');
});

it('measures nothing where UDP does not pass, and nothing any more after the end', async () => {
  const watch = new NatWatch(new SystemEntropy(), owner);
  watch.setRelays([RELAY]);
  await pass(3);
  await looks[0]!.end('UDP blocked', false);
  expect(looks).toHaveLength(1);
  watch.networkChanged();
  await pass(3);
  await looks[1]!.end('open');
  watch.stop();
  await looks[2]!.end('late');
  expect(name(watch)).toBe('open');
  await pass(60);
  expect(looks).toHaveLength(3);
});
