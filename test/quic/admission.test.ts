/** Handshakes from addresses that prove themselves and from those that do not: Retry, limits, answers to strangers. */
import { beforeAll, describe, expect, it } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { QuicEndpoint, ResponseKind } from '../../src/quic/endpoint.js';
import type { ServerOptions } from '../../src/quic/options.js';
import { type Certificates, certificates, makeNet, type Net, Recorder, SERVER_ADDRESS, utf8, WALL } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

const netWith = (server: Partial<ServerOptions>): Net => makeNet(certs, { server: { server } });
const source = (i: number): SocketAddress => SocketAddress.parse(`198.51.${i >> 8}.${i & 255}:5000`)!;

/** First packets of `count` connection attempts whose clients then stay silent. */
function initials(net: Net, count: number): Uint8Array[] {
  const packets: Uint8Array[] = [];
  for (let i = 0; i < count; i++) net.connect();
  const client = net.client.endpoint;
  while (client.transmit(net.now, 0, 1)) packets.push(client.tx.slice(0, client.out.length));
  return packets;
}

/** What the server sends now, by kind of answer; connections' own packets count as 0. */
function answers(net: Net): number[] {
  const kinds: number[] = [];
  const server = net.server.endpoint;
  server.process(net.now);
  while (server.transmit(net.now, 0, 10)) kinds.push(server.out.response);
  return kinds;
}

describe('Retry', () => {
  it('is asked of everybody when the threshold is 0, and a client that answers gets in', () => {
    const net = netWith({ retryAbove: 0 });
    net.establish();
    expect(net.server.endpoint.counters()).toMatchObject({ retried: 1, accepted: 1, connected: 1 });
  });

  it('is asked above N handshakes in flight, and costs no state', () => {
    const net = netWith({ retryAbove: 3 });
    const packets = initials(net, 8);
    packets.forEach((packet, i) => {
      net.deliver(net.server, packet, source(i));
    });
    expect(net.server.endpoint.counters()).toMatchObject({ accepted: 3, retried: 5, handshakes: 3, connections: 3 });
    expect(answers(net).filter((kind) => kind === ResponseKind.retry)).toHaveLength(5);
  });

  it('never happens with an infinite threshold', () => {
    const net = netWith({ retryAbove: Number.POSITIVE_INFINITY });
    for (const [i, packet] of initials(net, 200).entries()) net.deliver(net.server, packet, source(i));
    expect(net.server.endpoint.counters()).toMatchObject({ accepted: 200, retried: 0 });
  });

  it('takes a token from the address it was given to only, and for 60 s only', () => {
    const second = (change: (net: Net) => SocketAddress) => {
      const net = netWith({ retryAbove: 0 });
      net.connect();
      let token: Uint8Array | undefined;
      let first = true;
      net.tap = (bytes, to) => {
        if (to !== net.server || (bytes[0]! & 0xf0) !== 0xc0) return;
        if (!first) token ??= bytes;
        first = false;
      };
      net.path = (bytes) => (bytes === token || token !== undefined ? undefined : Millis(5));
      net.run(Millis(50));
      net.deliver(net.server, token!, change(net));
      return net.server.endpoint.counters();
    };
    expect(second((net) => net.client.address)).toMatchObject({ accepted: 1, retried: 1 });
    expect(second(() => source(9)).accepted).toBe(0);
    const late = second((net) => {
      net.server.endpoint.setWallTime(net.now, (WALL + 61_000) as typeof WALL);
      return net.client.address;
    });
    expect(late.accepted).toBe(0);
  });
});

describe('limits', () => {
  it('ignores handshakes above the total without a word, and takes new ones when old ones end', () => {
    const net = netWith({ maxHandshakes: 10, retryAbove: Number.POSITIVE_INFINITY });
    for (const [i, packet] of initials(net, 25).entries()) net.deliver(net.server, packet, source(i));
    expect(net.server.endpoint.counters()).toMatchObject({ accepted: 10, refusedTotal: 15, handshakes: 10 });
    expect(answers(net)).not.toContain(ResponseKind.refusal);
    net.path = () => undefined;
    net.run(Seconds(15));
    expect(net.server.endpoint.counters()).toMatchObject({
      handshakes: 0,
      sources: 0,
      connections: 0,
      handshakeFailed: 10,
    });
    net.path = () => Millis(5);
    net.establish();
  });

  it('refuses a proved address above the total, so that it need not wait', () => {
    const net = netWith({ maxHandshakes: 0, retryAbove: 0 });
    const { handler } = net.connect();
    net.run(Seconds(1));
    // Nothing in flight is allowed, so not even a Retry is spent on it.
    expect(net.server.endpoint.counters()).toMatchObject({ refusedTotal: 1, retried: 0 });
    expect(handler.connected).toHaveLength(0);
  });

  it('counts one source alone: an IPv4 address, an IPv6 /64, a relay channel', () => {
    const cases: [string[], number][] = [
      [['192.0.2.9:1', '192.0.2.9:2', '192.0.2.9:3', '192.0.2.10:1'], 3],
      [['[2001:db8::1]:1', '[2001:db8::2]:1', '[2001:db8::3]:1', '[2001:db8:0:1::]:1'], 3],
      [['[fd53:616c:6c79::1]:1', '[fd53:616c:6c79::2]:1', '[fd53:616c:6c79::3]:1', '[fd53:616c:6c79::4]:1'], 4],
    ];
    for (const [addresses, accepted] of cases) {
      const net = netWith({ maxHandshakesPerSource: 2 });
      const packets = initials(net, addresses.length);
      packets.forEach((packet, i) => {
        net.deliver(net.server, packet, SocketAddress.parse(addresses[i]!)!);
      });
      expect(net.server.endpoint.counters()).toMatchObject({ accepted, refusedSource: addresses.length - accepted });
    }
  });

  it('frees a source when its handshake is done', () => {
    const net = netWith({ maxHandshakesPerSource: 1 });
    for (let i = 0; i < 5; i++) net.establish();
    expect(net.server.endpoint.counters()).toMatchObject({ accepted: 5, handshakes: 0, sources: 0, refusedSource: 0 });
  });

  it('gives up a handshake that takes too long, at both ends', () => {
    const net = makeNet(certs, { client: { handshakeTimeout: Seconds(3) } });
    let heard = 0;
    net.tap = (_bytes, to) => {
      if (to === net.client) heard++;
    };
    net.path = () => (heard > 0 ? undefined : Millis(5));
    const { handler } = net.connect();
    net.run(Seconds(4));
    expect(handler.closed).toMatchObject([{ kind: 'timed-out' }]);
    net.run(Seconds(30));
    expect(net.server.endpoint.counters()).toMatchObject({ handshakes: 0, connections: 0, connected: 0 });
  });
});

describe('strangers', () => {
  /** A version that nobody speaks, in an Initial of full size. */
  const unknownVersion = (): Uint8Array => {
    const packet = new Uint8Array(1200);
    packet.set([0xc0, 0xba, 0xba, 0xba, 0xba, 8, 1, 2, 3, 4, 5, 6, 7, 8, 8, 8, 7, 6, 5, 4, 3, 2, 1]);
    return packet;
  };

  it('are told the version, and the driver can see that it is such an answer', () => {
    const net = makeNet(certs);
    net.deliver(net.server, unknownVersion(), source(1));
    expect(answers(net)).toEqual([ResponseKind.versionNegotiation]);
    net.deliver(net.server, unknownVersion().subarray(0, 1199), source(1));
    expect(answers(net)).toEqual([]);
  });

  it('get no answer from an endpoint that only makes connections', () => {
    const net = makeNet(certs);
    const short = new Uint8Array(1200).fill(0x41);
    for (const packet of [unknownVersion(), short, initials(net, 1)[0]!]) net.deliver(net.client, packet, source(1));
    net.client.endpoint.process(net.now);
    expect(net.client.endpoint.transmit(net.now, 0, 1)).toBe(false);
  });

  it('get none from a server either that was told to be silent', () => {
    const net = makeNet(certs, { server: { answerUnknown: false, server: { retryAbove: 0 } } });
    net.deliver(net.server, unknownVersion(), source(1));
    expect(answers(net)).toEqual([]);
    expect(net.server.endpoint.counters().suppressed).toBe(1);
    net.establish();
  });

  it('cannot connect to an endpoint that is no server', () => {
    const net = makeNet(certs);
    const only = new QuicEndpoint({
      alpn: 'x',
      ca: certs.ca.pem,
      identity: certs.client,
      wallTime: WALL,
      client: false,
    });
    expect(() => only.connect(net.now, SERVER_ADDRESS, 'x', new Recorder())).toThrow(/makes no connections/);
    expect(() =>
      net.client.endpoint.connect(net.now, SocketAddress.parse('192.0.2.1:0')!, 'x', new Recorder()),
    ).toThrow();
  });
});

describe('bad material', () => {
  it('is refused with the reason', () => {
    const options = { alpn: 'x', ca: certs.ca.pem, identity: certs.client, wallTime: WALL, client: true };
    const make = (change: object) => () => new QuicEndpoint({ ...options, ...change });
    expect(make({ ca: '' })).toThrow(/no certificate/);
    expect(make({ identity: { certificate: certs.client.certificate, key: certs.server.key } })).toThrow();
    expect(make({ resetKey: utf8('short') })).toThrow(/reset key/);
  });
});
