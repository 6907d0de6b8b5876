/** What a connection does when its path changes, loses, or carries less than hoped. */
import { beforeAll, describe, expect, it } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { type Certificates, certificates, makeNet, type Net, type Path, utf8, write } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

const ELSEWHERE = SocketAddress.parse('203.0.113.5:60000')!;

describe('migration', () => {
  it('forbidden: packets from another address move nothing and deliver nothing', () => {
    const net = makeNet(certs);
    const { client, server, serverSide } = net.establish();
    const home = net.client.address;
    net.client.address = ELSEWHERE;
    client.sendDatagram(utf8('lost'));
    net.run(Seconds(1));
    expect(serverSide.datagrams).toHaveLength(0);
    expect(serverSide.moves).toHaveLength(0);
    expect(server.remote.toString()).toBe(home.toString());
    net.client.address = home;
    client.sendDatagram(utf8('found'));
    net.run(Seconds(1));
    expect(serverSide.datagrams).toHaveLength(1);
    expect(serverSide.closed).toHaveLength(0);
  });

  it('allowed: the new address is told once it is used, and packets go there', () => {
    const net = makeNet(certs, { server: { server: { migration: true } } });
    const { client, server, clientSide, serverSide } = net.establish();
    net.client.address = ELSEWHERE;
    client.localAddressChanged();
    net.run(Millis(100));
    expect(serverSide.moves).toEqual([ELSEWHERE.toString()]);
    expect(server.remote.toString()).toBe(ELSEWHERE.toString());
    server.sendDatagram(utf8('here'));
    net.run(Millis(100));
    expect(clientSide.datagrams).toHaveLength(1);
  });

  it('allowed: a copy of a packet sent from elsewhere moves nothing for good', () => {
    const net = makeNet(certs, { server: { server: { migration: true } } });
    const { client, server, clientSide } = net.establish();
    net.tap = (bytes, to) => {
      // An attacker on the path is faster than the packet itself.
      if (to === net.server) net.deliver(net.server, bytes.slice(), ELSEWHERE);
    };
    client.sendDatagram(utf8('x'.repeat(1000)));
    net.run(Millis(1));
    net.tap = undefined;
    net.run(Seconds(10));
    expect(server.remote.toString()).toBe(net.client.address.toString());
    server.sendDatagram(utf8('still here'));
    net.run(Seconds(1));
    expect(clientSide.datagrams).toHaveLength(1);
  });
});

describe('packet size', () => {
  const settle = (path: Path): number[] => {
    const net = makeNet(certs);
    net.path = path;
    const { client, server } = net.establish();
    for (let i = 0; i < 30; i++) {
      client.sendDatagram(new Uint8Array(1000));
      server.sendDatagram(new Uint8Array(1000));
      net.run(Millis(100));
    }
    expect(client.maxDatagramSize).toBe(client.stats()!.maxDatagramSize);
    return [client.stats()!.mtu, server.stats()!.mtu];
  };

  it('begins at 1200 and finds 1452 on a clean path', () => {
    const net = makeNet(certs);
    const { client } = net.establish();
    expect(settle(() => Millis(5))).toEqual([1452, 1452]);
    expect(client.maxDatagramSize).toBeGreaterThanOrEqual(1160);
  });

  it('stays at what a narrow path carries', () => {
    for (const mtu of settle((bytes) => (bytes.length > 1300 ? undefined : Millis(5)))) {
      expect(mtu).toBeGreaterThanOrEqual(1200);
      expect(mtu).toBeLessThanOrEqual(1300);
    }
  });

  it('notices a path that has become narrow, and finds what it carries', () => {
    const net = makeNet(certs);
    const { client } = net.establish();
    net.run(Seconds(2));
    expect(client.maxDatagramSize).toBeGreaterThan(1400);
    net.path = (bytes) => (bytes.length > 1250 ? undefined : Millis(5));
    for (let i = 0; i < 200; i++) {
      client.sendDatagram(new Uint8Array(Math.min(1400, client.maxDatagramSize)));
      net.run(Millis(50));
    }
    const { mtu, blackHoles } = client.stats()!;
    expect(blackHoles).toBe(1);
    expect(mtu).toBeGreaterThan(1220);
    expect(mtu).toBeLessThanOrEqual(1250);
    expect(client.maxDatagramSize).toBeLessThan(mtu);
  });

  it('can be left alone', () => {
    const net = makeNet(certs, { client: { mtuUpperBound: undefined } });
    const { client } = net.establish();
    net.run(Seconds(5));
    expect(client.stats()!.mtu).toBe(1200);
  });
});

describe('loss', () => {
  /** Offers 32 Mbit/s for five seconds over a path of 40 ms; the share that arrives. */
  const share = (controller: 'open' | 'cubic', loss: number): number => {
    const net = makeNet(certs, { client: { controller, seed: 1 }, server: { controller, seed: 2 } });
    net.path = (_bytes, entropy) => (entropy.unit() < loss && net.now > Seconds(1) ? undefined : Millis(20));
    const { client, serverSide } = net.establish();
    serverSide.keepDatagrams = false;
    net.run(Seconds(2));
    const payloads = new Array<Uint8Array>(4).fill(new Uint8Array(1000));
    let offered = 0;
    for (let i = 0; i < 5_000; i++) {
      offered += payloads.length;
      write(net, net.client.endpoint, client, payloads);
      net.run(Millis(1));
    }
    net.run(Millis(100));
    return serverSide.datagramCount / offered;
  };

  it.each([0, 0.01, 0.05])('an open controller delivers everything that is not lost at %s', (loss) => {
    expect(share('open', loss)).toBeGreaterThan(1 - loss - 0.01);
    expect(share('open', loss)).toBeLessThanOrEqual(1 - loss + 0.01);
  });

  it('CUBIC does not', () => {
    expect(share('cubic', 0.01)).toBeLessThan(0.5);
  });
});

describe('memory cap of the open controller', () => {
  it('stops sending at the cap and goes on when packets are accounted for', () => {
    const cap = 100_000;
    const net = makeNet(certs, { client: { inFlightCap: cap } });
    const { client, serverSide } = net.establish();
    net.run(Seconds(2));
    net.path = () => undefined;
    const before = client.stats()!.udpBytesOut;
    for (let i = 0; i < 50; i++) {
      write(net, net.client.endpoint, client, new Array<Uint8Array>(40).fill(new Uint8Array(1000)));
      net.pump(net.client);
    }
    const sent = client.stats()!.udpBytesOut - before;
    // The run that reaches the cap is sent whole.
    expect(sent).toBeGreaterThan(cap / 2);
    expect(sent).toBeLessThan(cap + 40 * 1452);
    expect(client.stats()!.window).toBeLessThan(3000);
    net.path = () => Millis(5);
    net.run(Seconds(5));
    expect(client.stats()!.window).toBe(2 ** 33);
    expect(serverSide.datagramCount).toBeGreaterThan(1000);
  });
});

describe('connection ids', () => {
  it('change when they have lived long enough, and the connection goes on', () => {
    const net = makeNet(certs, { server: { connectionIdLifetime: Seconds(60) }, client: { keepAlive: Seconds(5) } });
    const { client, serverSide } = net.establish();
    const seen = new Set<string>();
    net.tap = (bytes, to) => {
      if (to === net.server) seen.add(Buffer.from(bytes.subarray(1, 9)).toString('hex'));
    };
    net.run(Seconds(50));
    expect(seen.size).toBe(1);
    net.run(Seconds(200));
    expect(seen.size).toBeGreaterThan(2);
    client.sendDatagram(utf8('still here'));
    net.run(Seconds(1));
    expect(serverSide.datagrams).toHaveLength(1);
  });
});

describe('clock', () => {
  it('silence is counted from the last packet that only the peer can have sent', () => {
    const net = makeNet(certs);
    const { client, server } = net.establish();
    let last: Uint8Array = new Uint8Array(0);
    net.tap = (bytes, to) => {
      if (to === net.client) last = bytes.slice();
    };
    server.sendDatagram(new Uint8Array(100));
    net.run(Seconds(3));
    const silent = client.silentFor(net.now);
    expect(silent).toBeGreaterThan(Seconds(2));
    const packets = client.stats()!.udpPacketsIn;
    // Somebody on the path repeats a packet, and sends one with the right connection id that he cannot seal.
    net.deliver(net.client, last, net.server.address);
    last[last.length - 1]! ^= 1;
    last[10]! ^= 1;
    net.deliver(net.client, last, net.server.address);
    expect(client.stats()!.udpPacketsIn).toBe(packets + 2);
    expect(client.silentFor(net.now)).toBe(silent);
    client.ping();
    net.run(Millis(100));
    expect(client.silentFor(net.now)).toBeLessThan(Millis(100));
  });

  it('an idle connection ends after its timeout, and a keep-alive prevents that', () => {
    const net: Net = makeNet(certs, { client: { idleTimeout: Seconds(20) } });
    const { clientSide, serverSide } = net.establish();
    net.run(Seconds(25));
    expect(clientSide.closed).toMatchObject([{ kind: 'timed-out' }]);
    expect(serverSide.closed).toMatchObject([{ kind: 'timed-out' }]);
    const kept = makeNet(certs, { client: { idleTimeout: Seconds(20), keepAlive: Seconds(5) } });
    const { clientSide: alive } = kept.establish();
    kept.run(Seconds(100));
    expect(alive.closed).toHaveLength(0);
  });
});
