/** Loss: SACK recovery, NewReno, RTO and back-off, limited transmit, spurious timeouts (RFC 6675, 6582, 6298, 3042, 3522). */
import { describe, expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { Collector, Feeder, Network, pattern, SERVER, socket } from './harness.js';
import { brief, WirePeer } from './wire-peer.js';

/** A transfer over a network that loses the data packets whose numbers `lost` says. */
function transfer(tcp: object, lost: (index: number) => boolean, bytes = 2_000_000) {
  const net = new Network({ tcp }, { tcp }, Millis(10));
  const server = new Collector();
  const client = new Collector();
  net.server.handlers.onSyn = (request) => {
    server.connection = request.accept(server);
  };
  const c = net.client.stack.connect(net.now, socket(`${SERVER}:80`), client);
  let index = 0;
  net.impair = (packet, fromClient) =>
    fromClient && packet.length > 1000 && lost(index++) ? [] : [{ packet, delay: Millis(10) }];
  const feeder = new Feeder(c, pattern(5, bytes), true);
  const start = net.now;
  const done = net.run(Seconds(100), () => {
    feeder.feed();
    return server.total === bytes;
  });
  expect(done).toBe(true);
  expect(Buffer.compare(server.bytes(), feeder.data)).toBe(0);
  return { counters: net.client.stack.counters.stack, seconds: (net.now - start) / 1e6, connection: c };
}

describe.each(['cubic', 'newreno', 'bbr'] as const)('%s', (congestion) => {
  test('one lost segment of a big window is resent once, without a timeout', () => {
    const { counters } = transfer({ congestion }, (i) => i === 200);
    expect(counters.get('tcp_rto')).toBe(0);
    expect(counters.get('tcp_retransmits')).toBe(1);
    expect(counters.get('tcp_fast_retransmits')).toBe(1);
  });

  test('twenty lost segments of one window cost one round trip with SACK', () => {
    const clean = transfer({ congestion }, () => false);
    const { counters, seconds } = transfer({ congestion }, (i) => i >= 200 && i < 280 && i % 4 === 0);
    expect(counters.get('tcp_rto')).toBe(0);
    expect(counters.get('tcp_retransmits')).toBe(20);
    expect(seconds).toBeLessThan(clean.seconds + 1);
  });

  test('without SACK one segment is recovered per round trip, without a timeout', () => {
    const { counters } = transfer({ congestion, sack: false }, (i) => i === 200 || i === 205 || i === 210);
    expect(counters.get('tcp_rto')).toBe(0);
    expect(counters.get('tcp_retransmits')).toBe(3);
  });

  test('a lost retransmission is noticed without a timeout', () => {
    // Packet 200 and its first retransmission, which is the first packet of the same number again.
    let seen = 0;
    // Room for new data while the hole stands: only what is sent after the copy can tell that the copy is lost.
    const net = new Network({ tcp: { congestion } }, { tcp: { receiveInitial: 4 << 20 } }, Millis(10));
    const server = new Collector();
    net.server.handlers.onSyn = (request) => {
      request.accept(server);
    };
    const c = net.client.stack.connect(net.now, socket(`${SERVER}:80`), new Collector());
    const feeder = new Feeder(c, pattern(6, 3_000_000));
    let victim = -1;
    net.impair = (packet, fromClient) => {
      if (!fromClient || packet.length < 1000) return [{ packet, delay: Millis(10) }];
      const seq = new DataView(packet.buffer, packet.byteOffset).getUint32(24);
      if (++seen === 200) victim = seq;
      if (seq === victim && seen < 600) {
        if (seen > 200) victim = -1;
        return [];
      }
      return [{ packet, delay: Millis(10) }];
    };
    net.run(Seconds(60), () => {
      feeder.feed();
      return server.total === 3_000_000;
    });
    expect(Buffer.compare(server.bytes(), feeder.data)).toBe(0);
    expect(net.client.stack.counters.stack.get('tcp_rto')).toBe(0);
    expect(net.client.stack.counters.stack.get('tcp_retransmits')).toBe(2);
  });
});

test('the window falls by β (CUBIC) or half (NewReno) and slow start ends', () => {
  for (const [congestion, factor] of [
    ['cubic', 0.7],
    ['newreno', 0.5],
  ] as const) {
    const w = new WirePeer({ tcp: { congestion, timestamps: false } });
    w.open({ mss: 1000, sackPermitted: true, scale: 7, window: 65_535 });
    w.app.connection!.write(pattern(1, 20_000), 0, 20_000);
    expect(w.take().length).toBe(10); // IW10 (RFC 6928)
    const before = w.app.connection!.sender.congestion.window;
    expect(before).toBe(10_000);
    w.send('A', { seq: 1, ack: 1, sack: [[1001, 5001]], window: 512 });
    expect(w.app.connection!.sender.congestion.threshold).toBe(factor * 10_000);
    expect(brief(w.take()[0]!)).toBe('A 1:1001 ack 1');
  }
});

test('limited transmit: the first two duplicates each let one new segment go (RFC 3042)', () => {
  const w = new WirePeer({ tcp: { congestion: 'cubic' } });
  w.open({ mss: 1000, sackPermitted: false, window: 60_000 });
  w.app.connection!.write(pattern(1, 30_000), 0, 30_000);
  expect(w.take().length).toBe(10);
  w.send('A', { seq: 1, ack: 1, window: 60_000 });
  expect(w.take().map(brief)).toEqual(['A 10001:11001 ack 1']);
  w.send('A', { seq: 1, ack: 1, window: 60_000 });
  expect(w.take().map(brief)).toEqual(['A 11001:12001 ack 1']);
  w.send('A', { seq: 1, ack: 1, window: 60_000 });
  expect(w.take().map(brief)).toEqual(['A 1:1001 ack 1']);
  expect(w.count('tcp_dup_acks')).toBe(3);
});

test('RTO: doubled, one segment at a time, until a round trip is measured: an ACK of copies does not tell one (Karn)', () => {
  const w = new WirePeer({ tcp: { pathMtuProbing: false } });
  w.open({ mss: 1000 });
  // The handshake took no time, so the estimate is at the floor.
  w.app.connection!.write(pattern(1, 5000), 0, 5000);
  const seen = w.wait(Seconds(7));
  expect(seen.slice(0, 5).map(brief).at(-1)).toBe('PA 4001:5001 ack 1');
  expect(seen.slice(5).map((s) => [brief(s), Math.round(s.at / 1e5) / 10])).toEqual(
    [0.2, 0.6, 1.4, 3, 6.2].map((at) => ['A 1:1001 ack 1', at]),
  );
  expect(w.count('tcp_rto')).toBe(5);
  w.send('A', { seq: 1, ack: 1001 });
  expect(w.take().map(brief)).toEqual(['A 1001:2001 ack 1', 'A 2001:3001 ack 1']);
  expect(w.wait(Millis(250))).toEqual([]);
  w.send('A', { seq: 1, ack: 5001 });
  for (const sent of [5001, 6001]) {
    w.app.connection!.write(pattern(1, 1000), 0, 1000);
    expect(w.take().map(brief)).toEqual([`PA ${sent}:${sent + 1000} ack 1`]);
    expect(w.wait(Millis(150))).toEqual([]);
    if (sent === 5001) w.send('A', { seq: 1, ack: 6001 });
  }
  expect(w.wait(Millis(400)).map(brief)).toEqual(['PA 6001:7001 ack 1']);
});

test('RTO: what echoes a timestamp ends the back-off at once', () => {
  const w = new WirePeer({ tcp: { pathMtuProbing: false } });
  w.open({ mss: 1012, ts: [100, 0] });
  w.app.connection!.write(pattern(1, 5000), 0, 5000);
  w.wait(Seconds(7));
  expect(w.count('tcp_rto')).toBe(5);
  w.send('A', { seq: 1, ack: 1001, ts: [101, w.lastTimestamp] });
  expect(w.take().map(brief)).toEqual(['A 1001:2001 ack 1', 'A 2001:3001 ack 1']);
  expect(w.wait(Millis(250)).map(brief)).toEqual(['A 1001:2001 ack 1']);
});

test('without any sample the first timeout is 1 s', () => {
  const w = new WirePeer();
  w.connect();
  expect(w.wait(Millis(999))).toEqual([]);
  expect(w.wait(Millis(2)).map((s) => s.flags)).toEqual(['SECN']);
});

test('a spurious timeout is recognized by its timestamp and undone (RFC 3522)', () => {
  const w = new WirePeer();
  w.open({ mss: 1012, sackPermitted: true, ts: [100, 0] });
  const c = w.app.connection!;
  c.write(pattern(1, 10_000), 0, 10_000);
  const [first] = w.take();
  const before = c.sender.congestion.window;
  w.wait(Millis(300));
  expect(c.sender.congestion.window).toBe(1000);
  w.send('A', { seq: 1, ack: 1001, ts: [101, first!.options.timestampValue] });
  expect(w.count('tcp_spurious_rto')).toBe(1);
  expect(c.sender.congestion.window).toBeGreaterThanOrEqual(before);
});

test('an outage is not taken for a round trip: the estimate stays as it was', () => {
  const w = new WirePeer();
  w.open({ mss: 1012, sackPermitted: true, ts: [100, 0] });
  w.app.connection!.write(pattern(1, 1000), 0, 1000);
  const [first] = w.take();
  w.wait(Seconds(2));
  w.send('A', { seq: 1, ack: 1001, ts: [101, first!.options.timestampValue] });
  expect(w.app.connection!.roundTrip).toBeLessThan(Millis(10));
});

test('recovery sends at most two segments per acknowledgement (RFC 9937)', () => {
  const w = new WirePeer({ tcp: { timestamps: false, congestion: 'cubic' } });
  w.open({ mss: 1000, sackPermitted: true, scale: 7, window: 65_535 });
  const c = w.app.connection!;
  c.write(pattern(1, 60_000), 0, 60_000);
  const ack = (n: number, sack?: [number, number]) =>
    w.send('A', { seq: 1, ack: n, window: 500, ...(sack ? { sack: [sack] } : {}) });
  w.take();
  for (let n = 1001; n <= 10_001; n += 1000) {
    ack(n);
    w.take();
  }
  // Twenty are out; the first eleven are lost.
  expect(((c.sender.nxt - c.sender.una) | 0) / 1000).toBe(20);
  const bursts: number[] = [];
  for (let right = 22_001; right <= 30_001; right += 1000) {
    ack(10_001, [21_001, right]);
    bursts.push(w.take().length);
  }
  for (let n = 11_001; n <= 20_001; n += 1000) {
    ack(n, [21_001, 30_001]);
    bursts.push(w.take().length);
  }
  expect(Math.max(...bursts)).toBeLessThanOrEqual(2);
  expect(bursts.reduce((a, b) => a + b)).toBeGreaterThan(10);
  expect(w.count('tcp_rto')).toBe(0);
});

test('a peer that takes back what it had reported (RFC 2018 §8) gets it again', () => {
  const w = new WirePeer();
  w.open({ mss: 1000, sackPermitted: true });
  w.app.connection!.write(pattern(1, 4000), 0, 4000);
  w.take();
  w.send('A', { seq: 1, ack: 1, sack: [[2001, 4001]] });
  w.wait(Seconds(2));
  // Only what it acknowledges now counts.
  w.send('A', { seq: 1, ack: 2001 });
  const again = new Set(w.wait(Seconds(5)).map((s) => s.seq));
  expect(again).toContain(2001);
  w.send('A', { seq: 1, ack: 3001 });
  expect(w.wait(Seconds(5)).map((s) => s.seq)).toContain(3001);
});

test('nonsense in SACK blocks is ignored', () => {
  const w = new WirePeer();
  w.open({ mss: 1000, sackPermitted: true });
  w.app.connection!.write(pattern(1, 4000), 0, 4000);
  w.take();
  const { recovery } = w.app.connection!.sender;
  for (const block of [
    [3001, 2001],
    [2001, 9001],
    [-500, 1],
    [4001, 2_000_000_000],
  ] as const) {
    w.send('A', { seq: 1, ack: 1, sack: [block] });
    expect(recovery.log.sacked).toBe(0);
  }
});
