/** The bad link: its decisions in virtual time, and the real one between two hosts. */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { impairedLink } from './impaired-link.js';
import { Lab } from './lab.js';
import { Impairment, type Profile, WaitingPackets } from './programs/impairment.mjs';
import { program, startUdpEcho } from './services.js';

/** Release times of `count` packets of `bytes`, one each `gap` ms; undefined = dropped. */
const sendAll = (link: Impairment, count: number, gap: number, bytes = 1000): (number | undefined)[] =>
  Array.from({ length: count }, (_, index) => (link.offer(index * gap, bytes) > 0 ? link.releases[0] : undefined));

describe('Impairment', () => {
  it('lets everything through at once when nothing is asked for', () => {
    expect(sendAll(new Impairment(1, {}), 3, 10)).toEqual([0, 10, 20]);
  });

  it('loses the asked share, the same packets for the same seed', () => {
    const [one, again, other] = [1, 1, 2].map((seed) => sendAll(new Impairment(seed, { loss: 0.1 }), 20_000, 1));
    expect(one).toEqual(again);
    expect(one).not.toEqual(other);
    const share = one!.filter((at) => at === undefined).length / 20_000;
    expect(share).toBeGreaterThan(0.09);
    expect(share).toBeLessThan(0.11);
  });

  it('loses in bursts of the asked mean length', () => {
    const fates = sendAll(new Impairment(3, { burst: { enter: 0.01, leave: 0.25, loss: 1 } }), 100_000, 1);
    const bursts = fates.filter((at, index) => at === undefined && fates[index - 1] !== undefined).length;
    const mean = fates.filter((at) => at === undefined).length / bursts;
    expect(mean).toBeGreaterThan(3.6);
    expect(mean).toBeLessThan(4.4);
  });

  it('sends at the rate, queues up to the limit and drops beyond', () => {
    // 8 Mbit/s = 1000 bytes a millisecond.
    const link = new Impairment(1, { rate: 8e6, queue: 3000, delay: 10 });
    expect([1, 2, 3, 4].map(() => (link.offer(0, 1000) > 0 ? link.releases[0] : undefined))).toEqual([
      11,
      12,
      13,
      undefined,
    ]);
    expect(link.counters).toMatchObject({ offered: 4, delivered: 3, queueFull: 1 });
    expect(link.offer(1, 1000)).toBe(1);
    expect(link.releases[0]).toBe(14);
  });

  it('keeps the order under jitter, and breaks it only when asked', () => {
    const ordered = (times: (number | undefined)[]): boolean =>
      times.every((at, index) => index === 0 || at! >= times[index - 1]!);
    expect(ordered(sendAll(new Impairment(1, { delay: 20, jitter: 30 }), 1000, 1))).toBe(true);
    const link = new Impairment(1, { delay: 20, reorder: 0.1 });
    expect(ordered(sendAll(link, 1000, 1))).toBe(false);
    expect(link.counters.heldBack).toBeGreaterThan(70);
  });

  it('duplicates, cuts large packets off, and goes down', () => {
    expect(new Impairment(1, { duplicate: 1 }).offer(0, 100)).toBe(2);
    const link = new Impairment(1, { largest: 1300 });
    expect([1300, 1301].map((size) => link.offer(0, size))).toEqual([1, 0]);
    link.profile = { down: true };
    expect(link.offer(0, 1)).toBe(0);
    expect(link.counters).toMatchObject({ tooLarge: 1, down: 1, delivered: 1 });
  });

  it('counts every packet exactly once', () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    const profiles: fc.Arbitrary<Profile> = fc.record({
      loss: share,
      rate: fc.nat(1e7),
      reorder: share,
      duplicate: share,
    });
    fc.assert(
      fc.property(fc.nat(), profiles, fc.array(fc.integer({ min: 1, max: 2000 })), (seed, profile, sizes) => {
        const link = new Impairment(seed, profile);
        for (const [index, size] of sizes.entries()) link.offer(index, size);
        const { offered, delivered, lost, queueFull, tooLarge, down } = link.counters;
        expect(delivered + lost + queueFull + tooLarge + down).toBe(offered);
      }),
    );
  });
});

describe('WaitingPackets', () => {
  it('gives packets back by time, then by arrival', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(50)), (times) => {
        const waiting = new WaitingPackets();
        for (const [index, at] of times.entries()) waiting.push(at, index, new Uint8Array());
        const expected = times.map((at, index) => ({ at, index })).sort((a, b) => a.at - b.at || a.index - b.index);
        const got = times.map(() => waiting.pop()!);
        expect(got.map((packet) => packet.to)).toEqual(expected.map((one) => one.index));
        expect(waiting.pop()).toBeUndefined();
        expect(waiting.next).toBe(Number.POSITIVE_INFINITY);
      }),
    );
  });
});

describe.skipIf(Lab.unavailable() !== undefined)('impairedLink', () => {
  const labs: Lab[] = [];
  afterEach(async () => {
    for (const lab of labs.splice(0)) await lab.destroy();
  });

  it('delays, loses and cuts real packets of both families, each direction by itself', async () => {
    const lab = new Lab();
    labs.push(lab);
    const [left, right] = [lab.host('left'), lab.host('right')];
    const link = await impairedLink(
      lab,
      { host: left, addresses: ['192.0.2.1/24', '2001:db8::1/64'] },
      { host: right, addresses: ['192.0.2.2/24', '2001:db8::2/64'] },
      { profile: { leftToRight: { delay: 30 }, rightToLeft: { delay: 10 } } },
    );
    expect(link).toMatchObject({ leftDevice: 'to-right', rightDevice: 'to-left' });
    await startUdpEcho(right);
    const send = async (address: string, count: number): Promise<{ received: number; rttMs: number[] }> =>
      JSON.parse(
        (await left.exec(program('udp-client', address, '7', '--count', String(count), '--linger', '300'))).stdout,
      );
    for (const address of ['192.0.2.2', '2001:db8::2']) {
      const { received, rttMs } = await send(address, 20);
      expect(received).toBe(20);
      expect(Math.min(...rttMs)).toBeGreaterThanOrEqual(40);
    }

    await link.set({ leftToRight: { loss: 0.5 }, rightToLeft: {} }, 7);
    const before = await link.counters();
    const { received } = await send('192.0.2.2', 200);
    const after = await link.counters();
    const lost = after.leftToRight.lost - before.leftToRight.lost;
    expect(lost).toBeGreaterThan(60);
    expect(lost).toBeLessThan(140);
    expect(after.rightToLeft.lost).toBe(0);
    expect(received).toBe(after.rightToLeft.delivered - before.rightToLeft.delivered);

    await link.set({ down: true });
    expect((await send('192.0.2.2', 5)).received).toBe(0);
    await link.set({});
    expect((await send('192.0.2.2', 5)).received).toBe(5);
  });
});
