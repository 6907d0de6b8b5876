/** What ends connections besides their ends: certificates, policy, key limits; and what many of them cost. */
import { beforeAll, describe, expect, it } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { elapsed, Millis, Minutes, Seconds, toMillis, wallAt } from '../../src/base/time.js';
import { CloseCode } from '../../src/quic/close.js';
import { type Certificates, certificates, makeNet, SERVER_NAME, utf8, WALL } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

const DAY = 86_400_000;
const from = wallAt(WALL - DAY);

describe('certificates that end', () => {
  it.each(['client', 'server'] as const)('end the connection, at both ends (%s)', async (role) => {
    const name = role === 'client' ? 'client.test' : SERVER_NAME;
    const short = await certs.ca.issue(name, [role], { from, to: wallAt(WALL + 60_000) });
    const patient = { idleTimeout: Minutes(10) };
    const net = makeNet(certs, {
      client: role === 'client' ? { ...patient, identity: short } : patient,
      server: role === 'server' ? { ...patient, identity: short } : patient,
    });
    const start = net.now;
    net.client.endpoint.setWallTime(net.now, WALL);
    net.server.endpoint.setWallTime(net.now, WALL);
    const { client, clientSide, serverSide } = net.establish();
    expect(client.certificateExpiry).toBe(WALL + 60_000);
    net.run(Seconds(59));
    expect(clientSide.closed).toHaveLength(0);
    net.run(Seconds(2));
    expect(toMillis(elapsed(start, net.now))).toBeLessThan(62_000);
    expect(clientSide.closed[0]?.code).toBe(CloseCode.certificateExpired);
    expect(serverSide.closed[0]?.code).toBe(CloseCode.certificateExpired);
  });

  it('are noticed at once when the wall clock is set forward', () => {
    const net = makeNet(certs);
    const { clientSide } = net.establish();
    net.client.endpoint.setWallTime(net.now, wallAt(WALL + 8 * DAY));
    expect(net.client.endpoint.nextTimeout()).toBeLessThanOrEqual(net.now);
    net.client.endpoint.process(net.now);
    expect(clientSide.closed).toMatchObject([{ kind: 'local', code: CloseCode.certificateExpired }]);
  });
});

describe('recheck', () => {
  it('is asked by timer and on demand, and ends what may not stay', () => {
    const net = makeNet(certs, { server: { recheckInterval: Seconds(30) } });
    const first = net.establish();
    const second = net.establish();
    net.run(Seconds(40));
    expect(first.serverSide.closed).toHaveLength(0);
    first.serverSide.order = { code: 4, reason: 'revoked' };
    net.run(Seconds(31));
    expect(first.clientSide.closed).toEqual([{ kind: 'peer-application', code: 4, text: 'revoked' }]);
    second.serverSide.order = { code: 4, reason: 'revoked' };
    net.server.endpoint.recheck(net.now);
    net.run(Millis(100));
    expect(second.clientSide.closed).toHaveLength(1);
  });
});

describe('keys', () => {
  it('may be changed while datagrams flow', () => {
    const net = makeNet(certs);
    const { client, server, serverSide, clientSide } = net.establish();
    for (let i = 0; i < 100; i++) {
      if (i % 10 === 0) (i % 20 === 0 ? client : server).forceKeyUpdate();
      client.sendDatagram(utf8(`${i}`));
      server.sendDatagram(utf8(`${i}`));
      net.run(Millis(200));
    }
    expect(serverSide.datagrams).toHaveLength(100);
    expect(clientSide.datagrams).toHaveLength(100);
    expect(serverSide.closed).toHaveLength(0);
  });
});

describe('malformed packets', () => {
  it('100,000 of them, random and mutated, leave an established connection intact and nothing half-open', () => {
    const net = makeNet(certs);
    const { client, serverSide } = net.establish();
    const samples: Uint8Array[] = [];
    net.tap = (bytes, to) => {
      if (to === net.server) samples.push(bytes);
    };
    client.sendDatagram(new Uint8Array(1000));
    net.connect();
    net.run(Seconds(1));
    net.tap = undefined;
    expect(samples.length).toBeGreaterThan(3);
    const entropy = new SeededEntropy(7);
    const strangers = [net.client.address, ...[1, 2, 3].map((i) => SocketAddress.parse(`203.0.113.${i}:9`)!)];
    const before = net.server.endpoint.counters().packets;
    for (let i = 0; i < 100_000; i++) {
      let packet: Uint8Array;
      if (i % 3 === 0) {
        packet = new Uint8Array(1 + (entropy.uint32() % 1500));
        entropy.fill(packet.subarray(0, 40));
      } else {
        packet = samples[entropy.uint32() % samples.length]!.slice();
        for (let k = 0; k < 3; k++) packet[entropy.uint32() % Math.min(packet.length, 60)] = entropy.uint32();
        if (i % 5 === 0) packet = packet.subarray(0, 1 + (entropy.uint32() % packet.length));
      }
      net.deliver(net.server, packet, strangers[i % strangers.length]!);
      if (i % 1000 === 0) {
        net.server.endpoint.process(net.now);
        while (net.server.endpoint.transmit(net.now, 0, 10));
      }
    }
    expect(net.server.endpoint.counters().packets - before).toBe(100_000);
    net.path = () => Millis(5);
    net.run(Seconds(20));
    const received = serverSide.datagrams.length;
    client.sendDatagram(utf8('still here'));
    net.run(Seconds(1));
    expect(serverSide.datagrams).toHaveLength(received + 1);
    const counters = net.server.endpoint.counters();
    // The connection of the test and the second one that was sampled.
    expect(counters).toMatchObject({ handshakes: 0, sources: 0, connections: 2 });
    expect(net.accepted).toHaveLength(2);
  });
});

describe('many connections', () => {
  /** As many as show what each costs; handshakes take the time. */
  const MANY = 400;

  it(`${MANY} stay cheap: nothing to do at rest, and nothing left at the end; memory and idle turns are printed`, () => {
    const net = makeNet(certs);
    net.establish();
    const before = process.memoryUsage().rss;
    const start = performance.now();
    for (let i = 0; i < MANY; i++) {
      net.connect();
      net.run(Millis(30));
    }
    const handshake = (performance.now() - start) / MANY;
    net.run(Seconds(2));
    const each = (process.memoryUsage().rss - before) / MANY / 1024;
    const { endpoint } = net.server;
    expect(endpoint.counters().connections).toBe(MANY + 1);
    let busy = 0;
    const idle = performance.now();
    for (let i = 0; i < 1_000; i++) {
      endpoint.process(net.now);
      if (endpoint.transmit(net.now, 0, 40) || endpoint.nextTimeout()! <= net.now) busy++;
    }
    const turn = performance.now() - idle;
    expect(busy).toBe(0);
    console.log(
      `${MANY} connections: ${each.toFixed(1)} KiB each (both ends), ${handshake.toFixed(2)} ms a handshake with path, ${turn.toFixed(1)} µs an idle turn`,
    );
    expect([...endpoint.connections]).toHaveLength(MANY + 1);
    endpoint.close(net.now);
    net.run(Seconds(10));
    expect(endpoint.counters().connections).toBe(0);
    expect(net.client.endpoint.counters().connections).toBe(0);
  });
});
