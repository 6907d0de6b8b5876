/** Histograms: the buckets, what they are told as, and that a turn and a question fall where they belong. */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { Histogram } from '../../src/engine/histogram.js';
import { readPacket, udpPacket } from '../support/packets.js';
import { a, query, read, reply } from './dns/world.js';
import { CLIENT, type MockConnection, MockHost } from './replay/mock-host.js';

const ends = { from: CLIENT, to: '9.9.9.9' };
const bucketsOf = (host: MockHost, name: string): number[] =>
  Object.entries(host.values)
    .filter(([key]) => key.startsWith(`${name}_bucket{`))
    .map(([, value]) => value);
/** Which bucket has one more than before. */
const bucketMoved = (before: readonly number[], after: readonly number[]): number[] =>
  after.flatMap((count, i) => {
    const own = count - (after[i - 1] ?? 0);
    return own > before[i]! - (before[i - 1] ?? 0) ? [i] : [];
  });

test('a bound belongs to the bucket below it, and what is above all of them is counted too', () => {
  const histogram = new Histogram([1, 5]);
  expect([histogram.cumulative(), histogram.sum, histogram.largest]).toEqual([[0, 0, 0], 0, 0]);
  for (const value of [0, 1, 1.5, 5, 6, 1000]) histogram.add(value);
  expect([histogram.cumulative(), histogram.sum, histogram.largest]).toEqual([[2, 4, 6], 1013.5, 1000]);
});

test.each([1, 3, 64, 200])('a turn of %i packets falls into its bucket, in and out', (packets) => {
  const host = new MockHost({ hooks: { onFlow: () => ({ action: 'block', how: 'ignore' }) } });
  const before = bucketsOf(host, 'turn_packets_in');
  host.engine.packets(Array.from({ length: packets }, (_, i) => udpPacket(ends, 1000 + i, 7, 'x')));
  host.run(Millis(1));
  // le = 0, 1, 2, 4, 8, 16, 32, 64, 128, 256
  const bucket = 1 + Math.ceil(Math.log2(packets));
  expect(bucketMoved(before, bucketsOf(host, 'turn_packets_in'))).toContain(bucket);
  expect(host.values['turn_packets_in_sum']).toBe(packets);
  expect(host.values['turn_packets_in_count']).toBe(host.values['turns']);
});

/** A host whose name server answers after so long; 0: never. */
function asking(milliseconds: number): MockHost {
  const host = new MockHost({ dns: { mode: 'hijack', servers: ['10.9.0.53'] } });
  host.onDial = (connection) => host.engine.connected(connection.id);
  const waiting: [MockConnection, Uint8Array][] = [];
  host.onSend = (connection, bytes) => void waiting.push([connection, bytes.slice()]);
  host.engine.packets([udpPacket(ends, 4000, 53, query('www.example', 'A'))]);
  host.run(Millis(milliseconds));
  for (const [connection, bytes] of milliseconds === 0 ? [] : waiting) {
    const packet = read(bytes);
    const question = packet.questions![0]!;
    const asked = { via: 'udp', bytes, query: packet, question, name: question.name } as const;
    host.reply(connection, reply(asked, { answers: [a(question.name, '10.1.1.1')] }), '10.9.0.53:53');
  }
  host.run(milliseconds === 0 ? Seconds(20) : Millis(1));
  expect(host.packets.map(readPacket).map(({ port }) => port)).toEqual([4000]);
  return host;
}

test.each([
  [3, '0.005', '0.002'],
  [180, '0.2', '0.1'],
  [1500, '2', '1'],
  // Three tries of two seconds each.
  [0, '10', '5'],
])('a question that took %i ms is no longer than %s s and longer than %s s', (milliseconds, within, above) => {
  const { values, engine } = asking(milliseconds);
  const bucket = (le: string): number => values[`dns_latency_seconds_bucket{le=${le}}`]!;
  expect([bucket(within), bucket(above), values['dns_latency_seconds_count']]).toEqual([1, 0, 1]);
  expect(values['dns_latency_seconds_sum']).toBeCloseTo(milliseconds === 0 ? 6 : milliseconds / 1000, 2);
  const text = engine.metricsText();
  expect(text).toContain('# TYPE sallyport_engine_dns_latency_seconds histogram\n');
  expect(text).toContain(`\nsallyport_engine_dns_latency_seconds_bucket{le="${within}"} 1\n`);
  expect(text).toContain('\nsallyport_engine_dns_latency_seconds_bucket{le="+Inf"} 1\n');
  expect(text).toContain('\nsallyport_engine_dns_latency_seconds_count 1\n');
});

test('an answer of the cache is no question that went to servers; without a resolver there is no histogram', () => {
  const host = asking(3);
  host.engine.packets([udpPacket(ends, 4001, 53, query('www.example', 'A'))]);
  host.run(Millis(5));
  expect(host.values).toMatchObject({ 'dns{event=cache_hits}': 1, dns_latency_seconds_count: 1 });
  expect(new MockHost().engine.metricsText()).not.toContain('dns_latency');
});
