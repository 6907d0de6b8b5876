/** Keepalive, idle, user timeout, long round trips, and a stack that slept: RFC 1122 §4.2.3.6, RFC 5482, RFC 6298 §5.7. */
import { expect, test } from 'vitest';
import { instantAt, Micros, Millis, Minutes, Seconds } from '../../src/base/time.js';
import { Collector, Feeder, Network, pattern, SERVER, socket } from './harness.js';
import { brief, WirePeer } from './wire-peer.js';

const opened = (tcp = {}): WirePeer => {
  const w = new WirePeer({ tcp });
  w.open();
  return w;
};

test('keepalive: a probe after 60 s of silence, every 30 s, the end after 9 without an answer', () => {
  const w = opened();
  const seen = w.wait(Minutes(10));
  expect(seen.filter((s) => s.flags === 'A').map((s) => [brief(s), s.at / 1e6])).toEqual(
    Array.from({ length: 9 }, (_, i) => ['A 0:0 ack 1', 60 + 30 * i]),
  );
  expect(seen.at(-1)!.flags).toBe('RA');
  expect(w.app.closed).toBe('timeout');
});

test('keepalive: an answer starts the silence anew; our answer to the peer’s probe', () => {
  const w = opened();
  for (let i = 0; i < 20; i++) {
    expect(w.wait(Seconds(61)).length).toBeGreaterThan(0);
    w.send('A', { seq: 1, ack: 1 });
  }
  expect(w.app.closed).toBeUndefined();
  w.send('A', { seq: 0, ack: 1 });
  expect(w.take().map(brief)).toEqual(['A 1:1 ack 1']);
});

test('idle: no payload for the configured time ends the connection, keepalives do not count', () => {
  const w = opened({ idleTimeout: Seconds(300), keepaliveIdle: Seconds(50) });
  for (let i = 0; i < 5; i++) {
    w.wait(Seconds(55));
    w.send('A', { seq: 1, ack: 1 });
  }
  expect(w.app.closed).toBeUndefined();
  w.wait(Seconds(30));
  expect(w.app.closed).toBe('idle');
  expect(w.count('tcp_idle_timeouts')).toBe(1);
});

test('user timeout: unacknowledged data ends the connection', () => {
  const w = opened({ userTimeout: Seconds(20), keepaliveIdle: Micros(0) });
  w.app.connection!.write(pattern(1, 10), 0, 10);
  w.wait(Seconds(19));
  expect(w.app.closed).toBeUndefined();
  w.wait(Seconds(30));
  expect(w.app.closed).toBe('timeout');
});

test('a shut window does not time out while the peer answers', () => {
  const w = opened({ userTimeout: Seconds(100), keepaliveIdle: Micros(0) });
  w.send('A', { seq: 1, ack: 1, window: 0 });
  w.app.connection!.write(pattern(1, 10), 0, 10);
  for (let i = 0; i < 400; i++) {
    for (const _ of w.wait(Seconds(1))) w.send('A', { seq: 1, ack: 1, window: 0 });
  }
  expect(w.app.closed).toBeUndefined();
});

test('a stack that slept for hours goes on: kick resends at once and nothing has timed out', () => {
  const w = opened();
  w.app.connection!.write(pattern(1, 10), 0, 10);
  w.take();
  w.wait(Seconds(3));
  w.now = ((w.now as number) + 8 * 3600e6) as typeof w.now;
  w.stack.kick(w.now);
  w.stack.handleTimeout(w.now);
  expect(w.take().map(brief)).toEqual(['PA 1:11 ack 1']);
  expect(w.app.closed).toBeUndefined();
  w.send('A', { seq: 1, ack: 11 });
  expect(w.app.connection!.queued).toBe(0);
});

test('nothing due: pollTimeout is undefined after everything has closed', () => {
  const w = opened();
  w.app.connection!.abort();
  w.take();
  expect(w.stack.pollTimeout()).toBeUndefined();
});

test('a deadline that rounding puts a hair early is pushed on, so time cannot stand still', () => {
  const idle = 33_333.333333;
  // Instants for which (heard + idle) − heard is less than idle.
  let found = 0;
  for (let heard = 5_000_001.1; found < 20; heard += 1_234.5678) {
    const due = heard + idle;
    if (due - heard >= idle) continue;
    found++;
    const w = opened({ keepaliveIdle: Micros(idle), keepaliveInterval: Seconds(5) });
    w.now = instantAt(heard);
    w.send('A', { seq: 1, ack: 1 });
    w.now = instantAt(due);
    for (let i = 0; i < 3; i++) w.stack.handleTimeout(w.now);
    expect(w.stack.pollTimeout()!).toBeGreaterThan(due);
  }
});

/** Sends 200,000 bytes to a client a round trip of `rtt(t)` away, `t` µs after the beginning; returns the server's counters. */
function fetched(tcp: object, rtt: (elapsed: number) => number) {
  const net = new Network({ tcp }, { tcp });
  const start = net.now;
  net.impair = (packet) => [{ packet, delay: Micros(rtt(net.now - start) / 2) }];
  const clientSide = new Collector();
  const serverSide = new Collector();
  net.server.handlers.onSyn = (request) => {
    serverSide.connection = request.accept(serverSide);
  };
  net.client.stack.connect(net.now, socket(`${SERVER}:80`), clientSide);
  expect(net.run(Seconds(60), () => serverSide.connected === 1)).toBe(true);
  const feeder = new Feeder(serverSide.connection!, pattern(3, 200_000));
  const done = (): boolean => {
    feeder.feed();
    return clientSide.total === 200_000;
  };
  expect(net.run(Minutes(10), done)).toBe(true);
  return net.server.stack.counters.stack;
}

for (const congestion of ['cubic', 'newreno', 'bbr'] as const) {
  for (const sack of [true, false]) {
    const tcp = { congestion, sack, timestamps: false };
    // Once more each: the SYN-ACK, and by 2 s of 4 the first segment and what followed it while nothing was known.
    test.each([
      [1.2, 1],
      [2.5, 2],
      [4, 4],
    ])(
      `${congestion}${sack ? '' : ' without SACK'}: a round trip of %d s is measured without timestamps too`,
      (s, most) => {
        expect(fetched(tcp, () => Seconds(s)).get('tcp_retransmits')).toBeLessThanOrEqual(most);
      },
    );
  }
}

test.each(['cubic', 'newreno', 'bbr'] as const)(
  '%s: a round trip that becomes longer than the timeout is measured',
  (congestion) => {
    const rtt = (elapsed: number): number => (elapsed < 70_000 ? Millis(40) : Seconds(2));
    const counts = fetched({ congestion, timestamps: false }, rtt);
    expect(counts.get('tcp_rto')).toBeLessThanOrEqual(4);
  },
);
