/** How connections begin: RFC 9293 §3.5, the withheld SYN-ACK, and what options are agreed. */
import { describe, expect, test } from 'vitest';
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { Drop } from '../../src/base/drop.js';
import { Millis, Seconds } from '../../src/base/time.js';
import type { TcpRequest } from '../../src/netstack/tcp/request.js';
import type { Rejection } from '../../src/netstack/types.js';
import { Collector, Network, pattern, socket } from './harness.js';
import { brief, WirePeer } from './wire-peer.js';

describe('passive open', () => {
  test('withholds the SYN-ACK until the application accepts, and absorbs repeated SYNs', () => {
    const w = new WirePeer();
    const requests: TcpRequest[] = [];
    w.peer.handlers.onSyn = (request) => {
      requests.push(request);
    };
    w.send('S', { mss: 1460 });
    expect(w.take()).toEqual([]);
    w.send('S', { mss: 1460 });
    w.send('S', { mss: 1460 });
    expect(requests.length).toBe(1);
    expect(w.count('tcp_syn_absorbed')).toBe(2);
    expect(requests[0]!.remote.toString()).toBe('192.0.2.1:40000');
    expect(requests[0]!.local.toString()).toBe('198.51.100.9:80');
    requests[0]!.accept(w.app);
    const [synAck, ...rest] = w.take();
    expect(rest).toEqual([]);
    expect(brief(synAck!)).toBe('SA 0:0 ack 1');
    expect(synAck!.options.mss).toBe(1460);
    expect(synAck!.options.windowScale).toBe(-1);
    expect(synAck!.options.hasTimestamps).toBe(false);
    expect(w.app.connected).toBe(0);
    w.send('A', { seq: 1, ack: 1 });
    expect(w.app.connected).toBe(1);
  });

  test('agrees on what both ends offer', () => {
    const w = new WirePeer();
    const synAck = w.open({ mss: 1400, scale: 9, sackPermitted: true, ts: [77, 0] });
    expect(synAck.options.windowScale).toBe(7);
    expect(synAck.options.sackPermitted).toBe(true);
    expect(synAck.options.hasTimestamps).toBe(true);
    expect(synAck.options.timestampEcho).toBe(77);
    w.app.connection!.write(pattern(1, 5000), 0, 5000);
    // 1400 − 12 bytes of timestamp option; 2^9 times the window field.
    expect(w.take().map((s) => s.data.length)).toEqual([1388, 1388, 1388, 836]);
  });

  test.each([
    [4, 536],
    [6, 1220],
  ])('without an MSS option IPv%i segments carry %i bytes', (family, mss) => {
    const w = new WirePeer();
    if (family === 6) {
      w.remote = new SocketAddress(IpAddress.parse('2001:db8::1')!, 40_000);
      w.local = new SocketAddress(IpAddress.parse('2001:db8::2')!, 80);
    }
    w.open({});
    w.app.connection!.write(pattern(1, mss + 1), 0, mss + 1);
    expect(w.take().map((s) => s.data.length)).toEqual([mss, 1]);
  });

  test.each<[Rejection, number, number]>([
    ['net-unreachable', 3, 0],
    ['host-unreachable', 3, 1],
    ['port-unreachable', 3, 3],
    ['admin-prohibited', 3, 13],
  ])('rejects with ICMP: %s', (how, type, code) => {
    const w = new WirePeer();
    w.peer.handlers.onSyn = (request) => request.reject(how);
    w.send('S', { mss: 1460 });
    const [packet, ...rest] = w.raw();
    expect(rest).toEqual([]);
    expect([packet![9], packet![20], packet![21]]).toEqual([1, type, code]);
    // The quoted SYN: addresses, ports and sequence number as it came.
    const quoted = new DataView(packet!.buffer, packet!.byteOffset + 28);
    expect(quoted.getUint16(20)).toBe(40_000);
    expect(quoted.getUint16(22)).toBe(80);
    expect(quoted.getUint32(24)).toBe(w.iss);
    expect(w.stack.flows).toBe(0);
  });

  test('rejects with RST, with silence, and by default', () => {
    const w = new WirePeer();
    w.peer.handlers.onSyn = (request) => request.reject('reset');
    w.send('S');
    expect(w.take().map(brief)).toEqual(['AR 0:0 ack 1'.replace('AR', 'RA')]);
    w.peer.handlers.onSyn = (request) => request.reject('ignore');
    w.send('S');
    expect(w.take()).toEqual([]);
    delete w.peer.handlers.onSyn;
    w.send('S');
    expect(w.take().map(brief)).toEqual(['RA 0:0 ack 1']);
    expect(w.stack.flows).toBe(0);
  });

  test('a pending request ends by the peer’s RST, by a new SYN, or by age; accepting it then does nothing', () => {
    const w = new WirePeer();
    const requests: TcpRequest[] = [];
    let cancelled = 0;
    w.peer.handlers.onSyn = (request) => {
      requests.push(request);
      request.onCancelled = () => {
        cancelled++;
      };
    };
    w.send('S');
    w.send('R', { seq: 1 });
    expect(cancelled).toBe(1);
    expect(requests[0]!.accept(w.app)).toBeUndefined();
    w.send('S');
    w.wait(Seconds(61));
    expect(cancelled).toBe(2);
    expect(w.stack.flows).toBe(0);
    expect(w.stack.pollTimeout()).toBeUndefined();
  });

  test('pending requests are bounded and counted', () => {
    const w = new WirePeer({ limits: { pendingRequests: 3 } });
    w.peer.handlers.onSyn = () => {};
    const results = [1, 2, 3, 4, 5].map((port) => w.send('S', { from: new SocketAddress(w.remote.ip, port) }));
    expect(results).toEqual([0, 0, 0, Drop.flow_limit, Drop.flow_limit]);
    expect(w.count('tcp_requests_refused')).toBe(2);
    expect(w.stack.counters.drops.get('flow_limit')).toBe(2);
  });

  test('connections are bounded in all their states; a SYN on top is dropped and counted, and its sender asks again', () => {
    const w = new WirePeer({ limits: { connections: 3 } });
    w.peer.handlers.onSyn = (request) => {
      request.accept(w.app);
    };
    const syn = (port: number): number => w.send('S', { from: new SocketAddress(w.remote.ip, port) });
    expect([1, 2, 3, 4].map(syn)).toEqual([0, 0, 0, Drop.flow_limit]);
    expect([w.count('tcp_requests_refused'), w.stack.counters.drops.get('flow_limit')]).toEqual([1, 1]);
    w.send('R', { seq: 1, from: new SocketAddress(w.remote.ip, 1) });
    expect([4, 5].map(syn)).toEqual([0, Drop.flow_limit]);
  });

  test('repeats the SYN-ACK with back-off and gives up', () => {
    const w = new WirePeer({ tcp: { synRetries: 4 } });
    w.peer.handlers.onSyn = (request) => {
      request.accept(w.app);
    };
    w.send('S');
    const seen = w.wait(Seconds(60)).filter((s) => s.flags === 'SA');
    expect(seen.map((s) => s.at / 1e6)).toEqual([0, 1, 3, 7]);
    expect(w.app.closed).toBe('timeout');
    expect(w.stack.flows).toBe(0);
  });

  test('SYN-RECEIVED: a repeated SYN is answered again, a wrong ACK is reset, RST closes', () => {
    const w = new WirePeer();
    w.peer.handlers.onSyn = (request) => {
      request.accept(w.app);
    };
    w.send('S');
    w.take();
    w.send('S');
    expect(w.take().map(brief)).toEqual(['SA 0:0 ack 1']);
    w.send('A', { seq: 1, ack: 99 });
    expect(w.take().map(brief)).toEqual(['R 99:99 ack 0']);
    expect(w.app.closed).toBeUndefined();
    w.send('R', { seq: 1 });
    expect(w.app.closed).toBe('reset');
    expect(w.stack.flows).toBe(0);
  });
});

describe('active open', () => {
  test('SYN, SYN-ACK, ACK', () => {
    const w = new WirePeer();
    const syn = w.connect();
    expect(syn.flags).toBe('SECN');
    expect([syn.options.mss, syn.options.windowScale, syn.options.sackPermitted]).toEqual([1460, 7, true]);
    w.send('SA', { ack: 1, mss: 1000 });
    expect(w.take().map(brief)).toEqual(['A 1:1 ack 1']);
    expect(w.app.connected).toBe(1);
  });

  test('repeats the SYN with back-off and gives up', () => {
    const w = new WirePeer({ tcp: { synRetries: 3 } });
    w.connect();
    const seen = w.wait(Seconds(30));
    expect(seen.map((s) => [s.flags, s.at / 1e6])).toEqual([
      ['SECN', 1],
      ['S', 3],
    ]);
    expect(w.app.closed).toBe('timeout');
  });

  test('a RST that acknowledges the SYN refuses; any other is ignored', () => {
    const w = new WirePeer();
    w.connect();
    w.send('RA', { ack: 5 });
    w.send('R');
    expect(w.app.closed).toBeUndefined();
    w.send('RA', { ack: 1 });
    expect(w.app.closed).toBe('refused');
    expect(w.stack.flows).toBe(0);
  });

  test('an ACK for something never sent is reset', () => {
    const w = new WirePeer();
    w.connect();
    w.send('A', { ack: 77 });
    expect(w.take().map(brief)).toEqual(['R 77:77 ack 0']);
    expect(w.app.closed).toBeUndefined();
  });

  test('data and FIN asked for before the handshake follow it', () => {
    const w = new WirePeer();
    w.connect();
    w.app.connection!.write(pattern(1, 10), 0, 10);
    w.app.connection!.shutdownWrite();
    expect(w.take()).toEqual([]);
    w.send('SA', { ack: 1, mss: 1000 });
    expect(w.take().map(brief)).toEqual(['FPA 1:11 ack 1']);
  });

  test('connect needs an address of the family and a port that is free', () => {
    const w = new WirePeer();
    expect(() => w.stack.connect(w.now, w.remote, w.app)).toThrowError(
      expect.objectContaining({ code: 'STACK_NO_ADDRESS' }),
    );
    w.connect();
    expect(() => w.stack.connect(w.now, w.remote, w.app, w.local)).toThrowError(
      expect.objectContaining({ code: 'STACK_FLOW_EXISTS' }),
    );
  });
});

test('simultaneous open: both SYNs cross, both ends are established and data flows', () => {
  const net = new Network({}, {}, Millis(10));
  const [a, b] = [new Collector(), new Collector()];
  const ca = net.client.stack.connect(net.now, socket('10.0.0.2:7000'), a, socket('10.0.0.1:6000'));
  const cb = net.server.stack.connect(net.now, socket('10.0.0.1:6000'), b, socket('10.0.0.2:7000'));
  ca.write(pattern(3, 9000), 0, 9000);
  cb.write(pattern(4, 9000), 0, 9000);
  expect(net.run(Seconds(10), () => a.total === 9000 && b.total === 9000)).toBe(true);
  expect([a.connected, b.connected]).toEqual([1, 1]);
  expect(Buffer.compare(a.bytes(), pattern(4, 9000))).toBe(0);
  ca.shutdownWrite();
  cb.shutdownWrite();
  net.run(Seconds(5));
  expect([a.closed, b.closed]).toEqual(['finished', 'finished']);
});

test('initial numbers differ per connection and grow with time', () => {
  const w = new WirePeer();
  const isns = [1, 2, 3].map((port) => {
    w.stack.connect(w.now, new SocketAddress(w.remote.ip, port), new Collector(), w.local);
    w.take();
    return w.irs;
  });
  expect(new Set(isns).size).toBe(3);
});
