/** Rules that hold flows back, through the whole engine in virtual time. */
import { describe, expect, it } from 'vitest';
import { Millis, Seconds } from '../../../src/base/time.js';
import { readPacket, udpPacket } from '../../support/packets.js';
import { CLIENT, MockHost } from '../replay/mock-host.js';

const WEB = '93.184.216.34:443';
const ends = { from: CLIENT, to: '93.184.216.34' };
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 255);

/** A flow that stands; its dial has waited for the latency. */
function open(host: MockHost) {
  const client = host.connect(WEB);
  host.run(Seconds(1));
  const { last } = host;
  host.engine.connected(last.id);
  host.run(Seconds(1));
  expect(client.connected).toBe(true);
  return { client, host: last };
}

/** Writes everything as the connection takes it, letting time pass. Returns how long it took to arrive, milliseconds. */
function upload(host: MockHost, flow: ReturnType<typeof open>, bytes: Uint8Array): number {
  const began = host.now;
  let at = 0;
  for (let i = 0; i < 3000 && flow.host.bytes < bytes.length; i++) {
    at += flow.client.connection.write(bytes, at, bytes.length - at);
    host.run(Millis(1));
  }
  return (host.now - began) / 1000;
}

describe('TCP', () => {
  it('arrives as late as the rule says, each way, ends included', () => {
    const host = new MockHost({ rules: ['shape port=443 delay=100ms'] });
    const flow = open(host);
    flow.client.connection.write(new TextEncoder().encode('question'), 0, 8);
    host.run(Millis(99));
    expect(flow.host.bytes).toBe(0);
    host.run(Millis(2));
    expect(flow.host.text).toBe('question');
    host.reply(flow.host, 'answer');
    host.engine.ended(flow.host.id);
    host.run(Millis(99));
    expect([text(flow.client.data), flow.client.peerClosed]).toEqual(['', false]);
    host.run(Millis(2));
    expect([text(flow.client.data), flow.client.peerClosed]).toEqual(['answer', true]);
    flow.client.connection.write(new TextEncoder().encode('bye'), 0, 3);
    flow.client.connection.shutdownWrite();
    host.run(Millis(98));
    expect([flow.host.text, flow.host.ended]).toEqual(['question', false]);
    host.run(Millis(3));
    expect([flow.host.text, flow.host.ended]).toEqual(['questionbye', true]);
    host.run(Seconds(1));
    expect([flow.host.closed, host.values['shaped_bytes'], host.values['flows_shaped']]).toEqual(['finished', 0, 1]);
  });

  it('keeps to its rate both ways, loses and reorders nothing whatever the jitter', () => {
    const host = new MockHost({ rules: ['shape port=443 rate=8mbit delay=10ms jitter=40ms'] });
    const flow = open(host);
    const bytes = pattern(1_000_000);
    const took = upload(host, flow, bytes);
    // 1 MB/s, with 50 ms at once.
    expect(took).toBeGreaterThan(940);
    expect(took).toBeLessThan(1150);
    expect(Buffer.compare(Buffer.concat(flow.host.received), bytes)).toBe(0);
    const began = host.now;
    let at = 0;
    while (flow.client.data.length < bytes.length && host.now - began < 5e6) {
      if (!flow.host.paused && at < bytes.length) {
        host.reply(flow.host, bytes.slice(at, at + 16_384));
        at += 16_384;
      }
      host.run(Millis(1));
    }
    const down = (host.now - began) / 1000;
    expect(down).toBeGreaterThan(940);
    expect(down).toBeLessThan(1250);
    expect(Buffer.compare(Buffer.from(flow.client.data), bytes)).toBe(0);
    flow.client.connection.abort();
    host.run(Millis(100));
    expect([flow.host.closed, host.values['shaped_bytes']]).toEqual(['aborted', 0]);
  });

  it('shares the rate of a rule, or has one for each flow', () => {
    const time = (rule: string): number => {
      const host = new MockHost({ rules: [rule] });
      const flows = [open(host), open(host)];
      const bytes = pattern(100_000);
      const began = host.now;
      const written = [0, 0];
      for (let i = 0; i < 1000 && flows.some((flow) => flow.host.bytes < bytes.length); i++) {
        for (const [k, { client }] of flows.entries()) {
          written[k]! += client.connection.write(bytes, written[k]!, bytes.length - written[k]!);
        }
        host.run(Millis(1));
      }
      return (host.now - began) / 1000;
    };
    const [shared, own] = [time('shape rate=4mbit'), time('shape rate=4mbit per=flow')];
    expect(shared).toBeGreaterThan(340);
    expect(own).toBeLessThan(170);
  });

  it('waits for a host that takes nothing, sends the rest after the program has closed, and gives up with an error', () => {
    const host = new MockHost({ rules: ['shape delay=50ms'] });
    const flow = open(host);
    flow.host.room = 10;
    flow.client.connection.write(pattern(30_000), 0, 30_000);
    host.run(Millis(200));
    const { bytes } = flow.host;
    expect(bytes).toBeLessThan(30_000);
    host.engine.ended(flow.host.id);
    flow.client.connection.shutdownWrite();
    host.run(Seconds(1));
    expect([flow.host.bytes, flow.host.ended]).toEqual([bytes, false]);
    flow.host.room = Number.POSITIVE_INFINITY;
    host.engine.resumed(flow.host.id);
    host.run(Seconds(1));
    expect([flow.host.bytes, flow.host.ended, flow.host.closed]).toEqual([30_000, true, 'finished']);

    const other = open(host);
    other.client.connection.write(pattern(1000), 0, 1000);
    host.engine.closed(other.host.id, 'error');
    host.run(Millis(300));
    expect(other.client.closed).toBe('reset');
    expect(host.values['shaped_bytes']).toBe(0);
  });

  it('ends as late as a byte would arrive when nothing waits, and of the host’s errors learns at once', () => {
    const host = new MockHost({ rules: ['shape port=443 delay=100ms'] });
    const [ends, fails, both] = [open(host), open(host), open(host)];
    ends.client.connection.shutdownWrite();
    host.run(Millis(99));
    expect(ends.host.ended).toBe(false);
    host.run(Millis(2));
    expect(ends.host.ended).toBe(true);
    host.engine.closed(fails.host.id, 'error');
    host.run(Millis(1));
    expect(fails.client.closed).toBe('reset');
    // The host has said its last word, and gives up what it was still to take.
    host.engine.ended(both.host.id);
    host.run(Millis(1));
    both.client.connection.write(new TextEncoder().encode('waits'), 0, 5);
    host.run(Millis(1));
    host.engine.closed(both.host.id, 'error');
    host.run(Millis(1));
    expect([both.client.closed, both.host.bytes]).toEqual(['reset', 0]);
  });

  it('of a closed program’s bytes keeps what the host does not take for a minute', () => {
    const host = new MockHost({ rules: ['shape delay=50ms'] });
    const flow = open(host);
    flow.host.room = 10;
    flow.client.connection.write(pattern(20_000), 0, 20_000);
    flow.client.connection.shutdownWrite();
    host.engine.ended(flow.host.id);
    host.run(Seconds(55));
    expect([flow.client.closed, flow.host.closed]).toEqual(['finished', undefined]);
    host.run(Seconds(10));
    expect(flow.host.closed).toBe('aborted');
    expect(host.values['shaped_bytes']).toBe(0);
  });

  it('takes from a host only what its rate has room for, and more at once when the rules let it', () => {
    const host = new MockHost({ rules: ['shape rate=8kbit'] });
    const flow = open(host);
    for (let i = 0; i < 60; i++) host.reply(flow.host, pattern(4096));
    host.run(Millis(10));
    expect([flow.host.paused, host.values['shaped_bytes']! < 64 * 1024]).toEqual([true, true]);
    host.engine.setRules(['shape rate=80mbit']);
    host.run(Millis(1));
    expect(flow.host.paused).toBe(false);
  });

  it('keeps to its rate over a long way too', () => {
    const host = new MockHost({ rules: ['shape port=443 rate=8mbit delay=300ms'] });
    const took = upload(host, open(host), pattern(1_000_000));
    expect(took).toBeGreaterThan(940);
    expect(took).toBeLessThan(1150);
  });

  it('is held back by the host’s hook too, until the engine stops', () => {
    const shape = { up: 1e6, down: 1e6, latency: Millis(30), jitter: Millis(0), key: undefined };
    const host = new MockHost({ hooks: { onFlow: () => ({ action: 'allow', shape }) } });
    const flow = open(host);
    host.reply(flow.host, 'x');
    host.run(Millis(29));
    expect(flow.client.data).toHaveLength(0);
    host.run(Millis(2));
    expect(flow.client.data).toHaveLength(1);
    host.reply(flow.host, 'y');
    host.engine.stop();
    host.run(Millis(100));
    expect([flow.host.closed, host.values['shaped_bytes']]).toEqual(['aborted', 0]);
  });
});

describe('UDP', () => {
  it('arrives late and in order, each way; what would wait too long is dropped and counted', () => {
    const host = new MockHost({ rules: ['shape protocol=udp rate=80kbit delay=20ms jitter=30ms'] });
    const sent = Array.from({ length: 30 }, (_, i) => udpPacket(ends, 1234, 443, new Uint8Array(500).fill(i)));
    host.engine.packets([...sent, udpPacket(ends, 1234, 443, '')]);
    host.run(Millis(19));
    expect(host.last.received).toHaveLength(0);
    host.run(Seconds(2));
    const order = host.last.received.filter(({ length }) => length > 0).map(([first]) => first!);
    expect(order).toEqual(order.map((_, i) => i));
    const dropped = host.values['backpressure_drops{where=shaper}']!;
    expect(dropped).toBeGreaterThan(5);
    expect(host.last.received.length + dropped).toBe(31);
    for (let i = 0; i < 3; i++) host.reply(host.last, new Uint8Array(100).fill(i), WEB);
    host.run(Millis(19));
    expect(host.packets).toHaveLength(0);
    host.run(Millis(100));
    expect(host.packets.map((packet) => readPacket(packet).data[0])).toEqual([0, 1, 2]);
    expect(readPacket(host.packets[0]!)).toMatchObject({ from: ends.to, to: CLIENT, port: 1234, sourcePort: 443 });
    host.run(Seconds(90));
    expect(host.values).toMatchObject({ 'flows_active{protocol=udp}': 0, shaped_bytes: 0 });
  });

  it('is lost at random as often as a rule says, each way; what arrives and what is counted is what was sent', () => {
    const host = new MockHost({ rules: ['shape loss=25%'] });
    const many = (from: number): void => {
      for (let i = 0; i < 20; i++) {
        host.engine.packets(Array.from({ length: 100 }, (_, k) => udpPacket(ends, 1234, 443, `${from + i} ${k}`)));
        host.run(Millis(1));
      }
    };
    many(0);
    const up = host.last.received.length;
    const lost = host.values['shaped_losses']!;
    expect(up + lost).toBe(2000);
    expect(Math.abs(lost - 500)).toBeLessThan(100);
    for (let i = 0; i < 2000; i++) {
      host.reply(host.last, 'x', WEB);
      if (i % 50 === 0) host.run(Millis(1));
    }
    host.run(Millis(10));
    const lostDown = host.values['shaped_losses']! - lost;
    expect(host.packets.length + lostDown).toBe(2000);
    expect(Math.abs(lostDown - 500)).toBeLessThan(100);
    expect(host.values).toMatchObject({ 'backpressure_drops{where=shaper}': 0, 'backpressure_drops{where=host}': 0 });
    host.engine.setRules(['shape loss=100%']);
    host.run(Millis(1));
    many(20);
    expect(host.last.received).toHaveLength(up);
    host.engine.setRules([]);
    host.run(Millis(1));
    host.engine.packets([udpPacket(ends, 1234, 443, 'through')]);
    host.run(Millis(1));
    expect(host.last.received).toHaveLength(up + 1);
    const flow = open(host);
    host.engine.setRules(['shape loss=100%']);
    flow.client.connection.write(pattern(1000), 0, 1000);
    host.run(Millis(10));
    expect(flow.host.bytes).toBe(1000);
  });

  it('leaves other flows alone', () => {
    const host = new MockHost({ rules: ['shape protocol=udp port=1000 delay=1s'] });
    host.engine.packets([udpPacket(ends, 1234, 1000, 'a'), udpPacket(ends, 1234, 2000, 'b')]);
    host.run(Millis(10));
    expect(host.last.text).toBe('b');
    host.run(Seconds(1));
    expect(host.last.text).toBe('ba');
  });
});
