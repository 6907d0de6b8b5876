/** Windows, acknowledgement policy, and segments an attacker or an old network sends: RFC 9293 §3.8.6, 1122, 7323, 5961. */
import { describe, expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { pattern } from './harness.js';
import { brief, type Seen, WirePeer } from './wire-peer.js';

const bytes = (n: number): Uint8Array => pattern(9, n);
const opened = (options = {}, fields = {}): WirePeer => {
  const w = new WirePeer(options);
  w.open({ mss: 1460, sackPermitted: true, ...fields });
  return w;
};

/** Where the ranges begin that an acknowledgement names. */
const namedBy = (w: WirePeer, { options: { sackCount, sackEdges } }: Seen): number[] =>
  Array.from({ length: sackCount }, (_, k) => (sackEdges[2 * k]! - w.iss) | 0);

describe('acknowledgements', () => {
  test('one segment waits 40 ms, two are acknowledged at once, one acknowledgement serves a batch', () => {
    const w = opened();
    w.send('A', { seq: 1, ack: 1, data: bytes(1000) });
    expect(w.take()).toEqual([]);
    expect(w.wait(Millis(39))).toEqual([]);
    expect(w.wait(Millis(2)).map(brief)).toEqual(['A 1:1 ack 1001']);
    for (let i = 0; i < 6; i++) w.send('A', { seq: 1001 + i * 1000, ack: 1, data: bytes(1000) });
    expect(w.take().map(brief)).toEqual(['A 1:1 ack 7001']);
    expect(w.wait(Seconds(1))).toEqual([]);
  });

  test('data carries the acknowledgement', () => {
    const w = opened();
    w.send('PA', { seq: 1, ack: 1, data: bytes(1000) });
    w.app.connection!.write(bytes(10), 0, 10);
    expect(w.take().map(brief)).toEqual(['PA 1:11 ack 1001']);
    w.send('A', { seq: 1001, ack: 11 });
    expect(w.wait(Seconds(1))).toEqual([]);
  });

  test('bytes beyond a gap are named at once, each range as it came first and then behind two newer ones', () => {
    const w = opened();
    for (const seq of [2001, 6001, 4001, 8001]) w.send('A', { seq, ack: 1, data: bytes(1000) });
    const acks = w.take();
    expect(acks.map((s) => s.ack)).toEqual([1, 1, 1, 1]);
    expect(acks.map((s) => namedBy(w, s))).toEqual([[2001], [6001, 2001], [4001, 6001, 2001], [8001, 4001, 6001]]);
    w.send('A', { seq: 1, ack: 1, data: bytes(1000) });
    expect(w.take().at(-1)!.ack).toBe(1001);
    w.send('A', { seq: 1001, ack: 1, data: bytes(1000) });
    expect(w.take().at(-1)!.ack).toBe(3001);
    expect(w.app.total).toBe(3000);
  });

  test('overlapping and repeated segments are joined byte for byte', () => {
    const w = opened();
    const data = bytes(5000);
    const part = (from: number, to: number) => ({ seq: 1 + from, ack: 1, data: data.subarray(from, to) });
    for (const [from, to] of [
      [3000, 4000],
      [2500, 3500],
      [1000, 2000],
      [500, 2600],
      [0, 600],
      [0, 5000],
      [4500, 5000],
    ] as const) {
      w.send('A', part(from, to));
    }
    expect(Buffer.compare(w.app.bytes(), data)).toBe(0);
    expect(w.take().at(-1)!.ack).toBe(5001);
  });
});

describe('the window we offer', () => {
  test('closes as the application stops reading, never takes back a promise, and reopens with an update', () => {
    const w = opened({ tcp: { receiveInitial: 8192, receiveMax: 8192, windowScaling: false } });
    w.app.limit = 0;
    let at = 1;
    for (; at < 8193; at += 1024) w.send('A', { seq: at, ack: 1, data: bytes(1024) });
    const shut = w.take().at(-1)!;
    expect([shut.ack, shut.window]).toEqual([8193, 0]);
    w.send('A', { seq: at, ack: 1, data: bytes(1) });
    expect(w.take().map((s) => [s.ack, s.window])).toEqual([[8193, 0]]);
    expect(w.app.connection!.readable).toBe(8192);
    w.app.limit = 100;
    w.app.connection!.pull();
    expect(w.take()).toEqual([]); // too little to be worth telling (RFC 1122 §4.2.3.3)
    w.app.limit = 10_000;
    w.app.connection!.pull();
    expect(w.take().map((s) => [s.ack, s.window])).toEqual([[8193, 8192]]);
    expect(w.app.total).toBe(8192);
  });

  test('right edge: what was promised is accepted to the last byte', () => {
    const w = opened({ tcp: { receiveInitial: 4096, receiveMax: 4096, windowScaling: false } });
    w.app.limit = 0;
    w.send('A', { seq: 1, ack: 1, data: bytes(4000) });
    w.take();
    w.send('A', { seq: 4001, ack: 1, data: bytes(200) });
    expect(w.take().at(-1)!.ack).toBe(4097);
    expect(w.app.connection!.readable).toBe(4096);
  });

  test('grows with what is read per round trip, up to the limit', () => {
    const w = opened({ tcp: { receiveInitial: 65_536, receiveMax: 262_144 } }, { scale: 2 });
    let seq = 1;
    for (let round = 0; round < 8; round++) {
      for (let sent = 0; sent < 60_000; sent += 1000, seq += 1000) w.send('A', { seq, ack: 1, data: bytes(1000) });
      w.wait(Millis(300));
    }
    expect(w.app.connection!.receiver.limit).toBeGreaterThan(65_536);
    expect(w.app.connection!.receiver.limit).toBeLessThanOrEqual(262_144);
  });

  test('without scaling it is never above 65,535', () => {
    const w = opened();
    for (let i = 0; i < 4; i++) w.send('A', { seq: 1 + i * 1000, ack: 1, data: bytes(1000) });
    expect(w.take().at(-1)!.window).toBe(65_535);
  });
});

test('who has not taken everything is told of what comes behind it: bytes in order, a gap filled, the end', () => {
  const w = opened();
  const connection = w.app.connection!;
  const offered: number[] = [];
  let more = 0;
  let isEnd = false;
  let room = 0;
  connection.setHandlers({
    onData: (_bytes, _offset, length) => {
      offered.push(length);
      return Math.min(length, room);
    },
    onMore: () => {
      more++;
      if (more > 1) connection.pull();
    },
    onPeerClosed: () => {
      isEnd = true;
    },
    onClosed: () => {},
  });
  w.send('A', { seq: 1, ack: 1, data: bytes(100) });
  expect([offered, more]).toEqual([[100], 0]);
  w.send('A', { seq: 101, ack: 1, data: bytes(50) });
  expect([offered, more]).toEqual([[100], 1]);
  w.send('A', { seq: 161, ack: 1, data: bytes(40) });
  expect([offered, more]).toEqual([[100], 1]);
  w.send('A', { seq: 151, ack: 1, data: bytes(10) });
  expect([offered, more]).toEqual([[100, 200], 2]);
  room = 1000;
  w.send('FA', { seq: 201, ack: 1 });
  expect([offered, more, isEnd]).toEqual([[100, 200, 200], 3, true]);
});

test('who has taken everything is not told of more', () => {
  const w = opened();
  let more = 0;
  w.app.connection!.setHandlers({
    onData: (_bytes, _offset, length) => length,
    onMore: () => more++,
    onClosed: () => {},
  });
  w.send('A', { seq: 1, ack: 1, data: bytes(100) });
  w.send('FA', { seq: 101, ack: 1, data: bytes(50) });
  expect([w.app.connection!.peerClosed, more]).toEqual([true, 0]);
});

test('a FIN that lies beyond the window is not taken', () => {
  const w = opened({ tcp: { receiveInitial: 4096, receiveMax: 4096, windowScaling: false } });
  w.app.limit = 0;
  w.send('A', { seq: 1, ack: 1, data: bytes(4000) });
  w.send('FA', { seq: 4001, ack: 1, data: bytes(200) });
  expect(w.take().at(-1)!.ack).toBe(4097);
  expect(w.app.connection!.peerClosed).toBe(false);
  w.app.limit = 10_000;
  w.app.connection!.pull();
  expect(w.take().at(-1)!.window).toBe(4096);
  w.send('FA', { seq: 4097, ack: 1, data: bytes(104) });
  expect([w.app.total, w.app.peerClosed]).toEqual([4200, 1]);
});

test('a repeated segment that acknowledges more is heard', () => {
  const w = opened();
  w.send('PA', { seq: 1, ack: 1, data: bytes(10) });
  w.app.connection!.write(bytes(10), 0, 10);
  w.take();
  w.send('PA', { seq: 1, ack: 11, data: bytes(10) });
  expect(w.app.connection!.queued).toBe(0);
});

describe('the window we are given', () => {
  test('is scaled, except in the SYN', () => {
    const w = opened({}, { scale: 4, window: 1000 });
    w.app.connection!.write(bytes(30_000), 0, 30_000);
    // ACK of the handshake said 1000 · 16.
    const sent = w.take().reduce((sum, s) => sum + s.data.length, 0);
    expect(sent).toBeLessThanOrEqual(16_000);
    expect(sent).toBeGreaterThan(12_000);
  });

  test('shut: probed with back-off as long as the peer answers, then used again at once', () => {
    const w = opened({}, { window: 2000 });
    const c = w.app.connection!;
    c.write(bytes(6000), 0, 6000);
    w.take();
    w.send('A', { seq: 1, ack: (c.sender.nxt - w.irs) | 0, window: 0 });
    const acked = (c.sender.una - w.irs) | 0;
    const probes: number[] = [];
    for (let i = 0; i < 400 && probes.length < 6; i++) {
      for (const s of w.wait(Millis(50))) {
        expect(s.data.length).toBe(1);
        probes.push(i);
        w.send('A', { seq: 1, ack: acked, window: 0 });
      }
    }
    const gaps = probes.map((p, i) => (i === 0 ? p : p - probes[i - 1]!)).slice(1);
    for (let i = 1; i < gaps.length; i++) expect(gaps[i]!).toBeGreaterThanOrEqual(2 * gaps[i - 1]! - 2);
    expect(w.count('tcp_window_probes')).toBeGreaterThanOrEqual(6);
    w.send('A', { seq: 1, ack: acked, window: 60_000 });
    expect(w.take().reduce((sum, s) => sum + s.data.length, 0)).toBe(6000 - (acked - 1));
  });

  test('a byte of a probe that was taken is not sent again', () => {
    const w = opened({}, { window: 1000 });
    const c = w.app.connection!;
    c.write(bytes(3000), 0, 3000);
    w.take();
    w.send('A', { seq: 1, ack: 1001, window: 0 });
    const [probe] = w.wait(Seconds(1));
    expect(brief(probe!)).toBe('A 1001:1002 ack 1');
    w.send('A', { seq: 1, ack: 1002, window: 5000 });
    expect(w.take()[0]!.seq).toBe(1002);
  });

  test('small: cut evenly, and no silly segments while full ones are on their way', () => {
    const w = opened({}, { window: 3000 });
    w.app.connection!.write(bytes(10_000), 0, 10_000);
    expect(w.take().map((s) => s.data.length)).toEqual([1000, 1000, 1000]);
    w.send('A', { seq: 1, ack: 1001, window: 2500 });
    expect(w.take()).toEqual([]);
    w.send('A', { seq: 1, ack: 3001, window: 1700 });
    expect(w.take().map((s) => s.data.length)).toEqual([1000]);
  });
});

describe('send buffer', () => {
  test('says when it is full and when there is room again', () => {
    const w = opened({ tcp: { sendInitial: 16_384, sendMax: 16_384 } });
    const c = w.app.connection!;
    expect(c.write(bytes(20_000), 0, 20_000)).toBe(16_384);
    expect(c.writable).toBe(0);
    w.take();
    w.send('A', { seq: 1, ack: 2921 });
    expect(w.app.writable).toBe(0);
    w.take();
    w.send('A', { seq: 1, ack: 11_681 });
    expect(w.app.writable).toBe(1);
    expect(c.write(bytes(20_000), 0, 20_000)).toBe(11_680);
  });

  test('reserve and commit send what was filled in', () => {
    const w = opened();
    const c = w.app.connection!;
    const span = c.reserve({ bytes: new Uint8Array(0), offset: 0, length: 0 });
    expect(span.length).toBeGreaterThan(5000);
    span.bytes.set(bytes(3000), span.offset);
    c.commit(3000);
    const sent = w.take();
    expect(Buffer.concat(sent.map((s) => s.data)).equals(bytes(3000))).toBe(true);
  });

  test('an idle connection holds no buffer', () => {
    const w = opened();
    w.app.connection!.write(bytes(3000), 0, 3000);
    expect(w.stack.pool.lentBytes).toBeGreaterThan(0);
    w.take();
    w.send('A', { seq: 1, ack: 3001 });
    expect(w.stack.pool.lentBytes).toBe(0);
  });
});

describe('old and forged segments', () => {
  test('PAWS: an older timestamp is dropped and answered, a newer one taken', () => {
    const w = opened({}, { ts: [1000, 0] });
    w.send('PA', { seq: 1, ack: 1, data: bytes(10), ts: [1001, 1] });
    w.send('PA', { seq: 11, ack: 1, data: bytes(10), ts: [999, 1] });
    expect(w.app.total).toBe(10);
    expect(w.count('tcp_paws_drops')).toBe(1);
    expect(w.take().map((s) => [s.ack, s.options.timestampEcho])).toEqual([[11, 1001]]);
    w.send('PA', { seq: 11, ack: 1, data: bytes(10), ts: [1001, 1] });
    expect(w.app.total).toBe(20);
  });

  test('PAWS: after 24 days of silence the timestamp says nothing', () => {
    const w = opened({ tcp: { keepaliveIdle: Seconds(0) } }, { ts: [1000, 0] });
    w.wait(Seconds(25 * 86_400));
    w.send('PA', { seq: 1, ack: 1, data: bytes(10), ts: [5, 1] });
    expect(w.app.total).toBe(10);
  });

  test('only segments at the left edge renew the echoed timestamp (RFC 7323 §4.3)', () => {
    const w = opened({}, { ts: [1000, 0] });
    w.send('A', { seq: 1001, ack: 1, data: bytes(10), ts: [1005, 1] });
    expect(w.take()[0]!.options.timestampEcho).toBe(1000);
    w.send('A', { seq: 1, ack: 1, data: bytes(1000), ts: [1003, 1] });
    expect(w.take().at(-1)!.options.timestampEcho).toBe(1003);
  });

  test('a SYN in a live connection is challenged, wherever it points', () => {
    const w = opened();
    w.send('S', { seq: 1 });
    expect(w.take().map(brief)).toEqual(['A 1:1 ack 1']);
    w.send('S', { seq: 5000 });
    expect(w.take().map(brief)).toEqual(['A 1:1 ack 1']);
    expect(w.app.closed).toBeUndefined();
    expect(w.count('tcp_challenge_acks')).toBe(2);
  });

  test('acknowledgements of what was never sent, or of long ago, are challenged and their data dropped', () => {
    const w = opened();
    w.send('PA', { seq: 1, ack: 100, data: bytes(5) });
    w.send('PA', { seq: 1, ack: -100_000, data: bytes(5) });
    expect(w.app.total).toBe(0);
    expect(w.take().map(brief)).toEqual(['A 1:1 ack 1']);
  });

  test('challenges are rate limited over all connections', () => {
    const w = opened({ limits: { challengeRate: 5 } });
    for (let i = 0; i < 50; i++) {
      w.send('S', { seq: 10 + i });
      w.take();
    }
    expect(w.count('tcp_challenge_acks')).toBe(5);
  });

  test('a segment without ACK is ignored, urgent data is taken as data', () => {
    const w = opened();
    w.send('P', { seq: 1, data: bytes(5) });
    expect(w.app.total).toBe(0);
    w.send('PAU', { seq: 1, ack: 1, data: bytes(5) });
    expect(w.app.total).toBe(5);
  });

  test('a damaged checksum is dropped and counted', () => {
    const w = opened();
    const [packet] = (() => {
      w.app.connection!.write(bytes(10), 0, 10);
      return w.raw();
    })();
    packet![packet!.length - 1]! ^= 1;
    w.peer.receive(w.now, packet!);
    expect(w.stack.counters.drops.get('bad_checksum')).toBe(1);
  });
});
