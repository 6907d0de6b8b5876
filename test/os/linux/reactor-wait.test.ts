import { beforeEach, expect, it, vi } from 'vitest';
import { instantAt, later, Millis } from '../../../src/base/time.js';
import { createReactor } from '../../../src/os/linux/linux.js';

/** What the loop did, in order: `poll` = asked the kernel without waiting, `wait` = prepared to wait. */
const log = vi.hoisted(() => [] as string[]);

vi.mock('../../../src/os/linux/libc.js', async (original) => {
  const libc = await original<typeof import('../../../src/os/linux/libc.js')>();
  return {
    ...libc,
    epollWait: (...args: number[]) => {
      log.push(args[3] === 0 ? 'poll' : 'wait');
      return libc.epollWait(...args);
    },
    epollPwait2: (...args: number[]) => {
      log.push('wait');
      return libc.epollPwait2!(...args);
    },
  };
});

beforeEach(() => {
  log.length = 0;
});

it('the first turn after libuv does not wait: what ran there may have changed what a hook wants', async () => {
  const reactor = createReactor({ onError: (error) => expect.unreachable(String(error)) });
  let marks = 0;
  reactor.onTurn(() => {
    setImmediate(() => log.push('libuv'));
    if (++marks === 30) reactor.stop();
    reactor.wake();
    return undefined;
  });
  await reactor.run();
  const after = log.flatMap((entry, i) => (entry === 'libuv' && log[i + 1] !== 'libuv' ? [log[i + 1]] : []));
  expect(after.length).toBeGreaterThan(5);
  expect(new Set(after.filter((entry) => entry !== undefined))).toEqual(new Set(['poll']));
});

it('a ring brings libuv its turn before the loop waits again', async () => {
  const reactor = createReactor({ onError: (error) => expect.unreachable(String(error)) });
  const start = reactor.readClock();
  for (let i = 1; i <= 10; i++) {
    reactor.at(later(start, Millis(i * 2)), () => {
      log.push('ring');
      setImmediate(() => log.push('libuv'));
      reactor.wake();
    });
  }
  reactor.at(later(start, Millis(25)), () => reactor.stop());
  await reactor.run();
  const rings = log.flatMap((entry, i) => (entry === 'ring' ? [i] : []));
  expect(rings).toHaveLength(10);
  for (const ring of rings) {
    const until = log.indexOf('libuv', ring);
    const between = log.slice(ring + 1, until).filter((entry) => entry === 'wait' || entry === 'poll');
    // The one call that hears the bell.
    expect(between.length).toBeLessThanOrEqual(1);
  }
});

it('a due timer, or a hook that wants to run at once, is not waited for', async () => {
  const reactor = createReactor({ onError: (error) => expect.unreachable(String(error)) });
  let turns = 0;
  reactor.onTurn((now) => {
    if (++turns === 10) reactor.stop();
    return turns % 2 === 0 ? now : undefined;
  });
  const again = (): void => {
    reactor.at(instantAt(0), again);
  };
  again();
  await reactor.run();
  expect(log).not.toContain('wait');
});
