/** What has been lent to a link is never written over before the link lets go of it, and everything goes to whom it was written for. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Counters } from '../../src/base/counters.js';
import { DROP_REASONS } from '../../src/base/drop.js';
import { type Instant, Seconds } from '../../src/base/time.js';
import { Link } from '../../src/node/link.js';
import { Outbound } from '../../src/node/outbound.js';
import type { QuicConnection } from '../../src/quic/connection.js';
import type { QuicEndpoint } from '../../src/quic/endpoint.js';
import { Fragmenter } from '../../src/tunnel/fragments.js';
import { Arena } from '../../src/wire/arena.js';
import { pattern } from '../support/app.js';
import { udpPacket } from '../support/packets.js';

const NOW = Seconds(100) as unknown as Instant;
const SIZE = 4096;

/** An endpoint whose links keep what they are lent until they are told to send. */
class Endpoint {
  readonly outbound = { arena: new Arena(SIZE), table: new Uint32Array(64) };
  readonly sent: string[][] = [[], []];
  isShut = false;
  readonly #memories = [this.outbound.arena.bytes];
  /** Per link, in order: bytes that were copied, or where they lie. */
  readonly #waiting: (Uint8Array | { at: number; length: number })[][] = [[], []];

  attach(bytes: Uint8Array): number {
    return this.#memories.push(bytes) - 1;
  }

  get isLent(): boolean {
    return this.#waiting.some((queue) => queue.some((one) => !(one instanceof Uint8Array)));
  }

  connection(link: number): QuicConnection {
    const rows = (count: number): { at: number; length: number }[] =>
      Array.from({ length: count }, (_, i) => ({
        at: this.outbound.table[i * 2]!,
        length: this.outbound.table[i * 2 + 1]!,
      }));
    return {
      id: link,
      maxDatagramSize: 1400,
      silentFor: () => 0,
      lendDatagrams: (_now: Instant, count: number) => this.#waiting[link]!.push(...rows(count)) && count,
      writeDatagrams: (_now: Instant, count: number, memory = 0) => {
        const bytes = this.#memories[memory]!;
        for (const { at, length } of rows(count)) this.#waiting[link]!.push(bytes.slice(at, at + length));
        return count;
      },
    } as unknown as QuicConnection;
  }

  /** Sends what link `link` holds. */
  send(link: number): void {
    for (const one of this.#waiting[link]!.splice(0)) {
      const bytes = one instanceof Uint8Array ? one : this.#memories[0]!.slice(one.at, one.at + one.length);
      this.sent[link]!.push(Buffer.from(bytes).toString('hex'));
    }
  }

  sendAll(): void {
    if (!this.isShut) for (const link of [0, 1]) this.send(link);
  }
}

type Step =
  | { readonly packet: { link: number; size: number } }
  | 'flush'
  | 'turn'
  | 'shut'
  | 'open'
  | 'send 0'
  | 'send 1';

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ packet: fc.record({ link: fc.nat(1), size: fc.integer({ min: 28, max: 1400 }) }) }),
  },
  { weight: 3, arbitrary: fc.constantFrom('flush', 'turn', 'shut', 'open', 'send 0', 'send 1') },
);

test('packets of two links that let go of them at any time arrive unchanged and in order', () => {
  let spares = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 120 }), fc.boolean(), (steps, isShut) => {
      const endpoint = new Endpoint();
      endpoint.isShut = isShut;
      const drops = new Counters(DROP_REASONS);
      const gate = { isBlocked: false, isMetered: false, batchBytes: 65_536, flushLinks: () => endpoint.sendAll() };
      const outbound = new Outbound(endpoint as unknown as QuicEndpoint, gate, drops, 1, { onTooBig: () => {} });
      const links = [0, 1].map((i) => {
        const link = new Link(NOW, endpoint.connection(i), undefined, i, new Fragmenter(), () => {});
        link.enter(NOW, 'live');
        return link;
      });
      const expected: string[][] = [[], []];
      let made = 0;
      for (const one of steps) {
        if (typeof one === 'object') {
          const { link, size } = one.packet;
          const packet = udpPacket({ from: '100.64.0.1', to: '10.100.0.1' }, 4000, 53, pattern(size - 28, made++));
          outbound.add(NOW, links[link]!, packet, 0, packet.length, false);
          expected[link]!.push(Buffer.from(packet).toString('hex'));
        } else if (one === 'flush') outbound.flush(NOW);
        else if (one === 'turn') {
          outbound.flush(NOW);
          endpoint.sendAll();
        } else if (one === 'shut') endpoint.isShut = true;
        else if (one === 'open') endpoint.isShut = false;
        else endpoint.send(one === 'send 0' ? 0 : 1);
        if (outbound.arena !== endpoint.outbound.arena) spares++;
      }
      outbound.flush(NOW);
      endpoint.isShut = false;
      endpoint.sendAll();
      expect(endpoint.sent).toEqual(expected);
      // Nothing is lent any more: the memory is used from its beginning again.
      outbound.add(
        NOW,
        links[0]!,
        udpPacket({ from: '100.64.0.1', to: '10.100.0.1' }, 1, 2, pattern(10)),
        0,
        38,
        false,
      );
      outbound.flush(NOW);
      outbound.begin(NOW, links[0]!, 1, 8, false);
      expect(outbound.arena).toBe(endpoint.outbound.arena);
    }),
    { numRuns: 300, examples: [[new Array<Step>(8).fill({ packet: { link: 0, size: 1400 } }), true]] },
  );
  expect(spares).toBeGreaterThan(0);
});
