/** Queues between a host and an engine against their models, and proxies' answers that are any bytes at all. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { ChunkQueue } from '../../src/engine/host/chunk-queue.js';
import { PacketRing } from '../../src/engine/host/packet-ring.js';
import { ConnectScript } from '../../src/engine/proxies/http-dialer.js';
import type { ProxyScript } from '../../src/engine/proxies/proxy-connection.js';
import { SOCKS_CONNECT, Socks5Script } from '../../src/engine/proxies/socks5-script.js';
import { encodeAddress, encodeName } from '../../src/wire/socks.js';

test('the packet ring gives back what it took, in order and whole, and refuses only what has no room', () => {
  const steps = fc.array(fc.oneof(fc.integer({ min: 0, max: 300 }), fc.constant('shift' as const)), { maxLength: 300 });
  fc.assert(
    fc.property(steps, (list) => {
      const ring = new PacketRing(1024);
      const model: Uint8Array[] = [];
      let serial = 0;
      for (const step of list) {
        if (step === 'shift') {
          let got: Uint8Array | undefined;
          ring.shift((arena, offset, length) => {
            expect(offset % 4).toBe(0);
            got = arena.bytes.slice(offset, offset + length);
          });
          expect(got).toEqual(model.shift());
        } else {
          const packet = new Uint8Array(step).fill(++serial);
          const taken = ring.push(packet);
          if (taken) model.push(packet);
          const held = model.reduce((sum, one) => sum + one.length + 8, 0);
          // Not used at the end: less than what did not fit there, which is this packet, or one that is held.
          const unused = Math.max(...model.map((one) => one.length), 0) + 8 + step + 8;
          if (!taken && step > 0) expect(held + unused + step + 8).toBeGreaterThan(1024);
          if (step === 0) expect(taken).toBe(false);
        }
        expect(ring.count).toBe(model.length);
      }
    }),
    // The fifth packet does not fit at the end, by four bytes.
    { examples: [[[89, 93, 93, 'shift', 'shift', 125, 297, 'shift', 289, 1]]] },
  );
});

test('a packet as long as the ring allows fits whenever the ring is empty', () => {
  const ring = new PacketRing(1024);
  for (const length of [500, 1020, 700, 1020]) {
    expect(ring.push(new Uint8Array(length))).toBe(true);
    expect(ring.shift(() => {})).toBe(true);
  }
  expect(ring.push(new Uint8Array(1021))).toBe(false);
});

test('the chunk queue is a stream, or datagrams, in order', () => {
  const from = SocketAddress.parse('1.2.3.4:5')!;
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -200, max: 200 }), { maxLength: 300 }), (steps) => {
      const queue = new ChunkQueue();
      let model: number[] = [];
      let serial = 0;
      for (const step of steps) {
        if (step > 0) {
          const bytes = Uint8Array.from({ length: step }, () => ++serial & 255);
          queue.push(bytes, from);
          model.push(...bytes);
        } else {
          const target = new Uint8Array(-step);
          const n = queue.read(target, 0, -step);
          expect([...target.subarray(0, n)]).toEqual(model.slice(0, n));
          expect(n).toBe(Math.min(Math.abs(step), model.length));
          model = model.slice(n);
        }
        expect(queue.bytes).toBe(model.length);
        expect(queue.length > 0).toBe(model.length > 0);
      }
      queue.clear();
      expect([queue.bytes, queue.length, queue.shift()]).toEqual([0, 0, undefined]);
    }),
  );
});

/** Feeds bytes as the connection would; returns the result, or how many bytes it still wants. */
function feed(script: ProxyScript, bytes: Uint8Array): number | 'waits' {
  let at = 0;
  for (let rounds = 0; rounds < 100_000; rounds++) {
    const { wanted } = script;
    expect(wanted).toBeGreaterThan(0);
    expect(wanted).toBeLessThan(600);
    if (at + wanted > bytes.length) return 'waits';
    const next = script.take(bytes.slice(at, at + wanted));
    at += wanted;
    if (typeof next === 'number') return next;
  }
  throw new Error('it never ends');
}

test('whatever a proxy says ends in success, a failure, or waiting: never in an exception, never without a bound', () => {
  const target = SocketAddress.parse('[2001:db8::1]:443')!;
  const word = fc.constantFrom(0, 1, 2, 3, 4, 5, 255, 13, 10, 72, 84, 80, 47, 49, 46, 32, 50, 48);
  const answers = fc.oneof(
    fc.uint8Array({ maxLength: 600 }),
    fc.array(word, { maxLength: 600 }).map((list) => Uint8Array.from(list)),
    fc.uint8Array({ maxLength: 600 }).map((rest) => Uint8Array.of(5, 0, 5, 0, 0, ...rest)),
  );
  fc.assert(
    fc.property(answers, (bytes) => {
      for (const script of [
        new Socks5Script(SOCKS_CONNECT, encodeAddress(target), undefined),
        new Socks5Script(SOCKS_CONNECT, encodeName('a.example', 443), {
          user: Uint8Array.of(97),
          password: Uint8Array.of(98),
        }),
        new ConnectScript(`${target}`, undefined),
      ]) {
        const result = feed(script, bytes);
        expect(result === 'waits' || result <= 0).toBe(true);
      }
    }),
  );
  expect(feed(new ConnectScript(`${target}`, undefined), new Uint8Array(40_000).fill(65))).toBeLessThan(0);
});
