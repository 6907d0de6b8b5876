/** Datagrams that are lent to a connection: not copied before they leave, and told for as long as they wait. */
import { beforeAll, describe, expect, it } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { type Certificates, certificates, makeNet, type Net } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

const SIZE = 1000;

/** Puts `count` datagrams of one value into the outbound arena, from place `first` on. */
function put(net: Net, first: number, count: number, value: number): void {
  const { arena, table } = net.client.endpoint.outbound;
  arena.bytes.fill(value, first * SIZE, (first + count) * SIZE);
  for (let i = 0; i < count; i++) table.set([(first + i) * SIZE, SIZE], i * 2);
}

describe('lent datagrams', () => {
  it('are read when they leave, in order, and are held until then', () => {
    const net = makeNet(certs);
    const { client, serverSide } = net.establish();
    const { endpoint } = net.client;
    put(net, 0, 3, 1);
    expect(client.lendDatagrams(net.now, 3)).toBe(3);
    expect(endpoint.isLent).toBe(true);
    // A copied one between lent ones keeps its place.
    put(net, 3, 1, 2);
    expect(client.writeDatagrams(net.now, 1)).toBe(1);
    endpoint.outbound.arena.bytes.fill(9, 3 * SIZE, 4 * SIZE);
    put(net, 4, 1, 3);
    expect(client.lendDatagrams(net.now, 1)).toBe(1);
    endpoint.outbound.arena.bytes.fill(7, 4 * SIZE, 5 * SIZE);
    net.run(Millis(50));
    expect(endpoint.isLent).toBe(false);
    expect(serverSide.datagrams.map((datagram) => [datagram.length, datagram[0], datagram[SIZE - 1]])).toEqual([
      [SIZE, 1, 1],
      [SIZE, 1, 1],
      [SIZE, 1, 1],
      [SIZE, 2, 2],
      [SIZE, 7, 7],
    ]);
  });

  it('are held while the window is shut, and no longer', () => {
    const net = makeNet(certs, { client: { inFlightCap: 20 * SIZE } });
    const { client, serverSide } = net.establish();
    net.run(Seconds(1));
    put(net, 0, 100, 1);
    expect(client.lendDatagrams(net.now, 100)).toBe(100);
    net.pump(net.client);
    expect(net.client.endpoint.isLent).toBe(true);
    net.run(Seconds(1));
    expect(net.client.endpoint.isLent).toBe(false);
    expect(serverSide.datagramCount).toBe(100);
  });

  it('are let go of at once by a connection that is closed', () => {
    const net = makeNet(certs, { client: { inFlightCap: 20 * SIZE } });
    const { client, serverSide } = net.establish();
    net.run(Seconds(1));
    put(net, 0, 100, 1);
    client.lendDatagrams(net.now, 100);
    net.pump(net.client);
    expect(net.client.endpoint.isLent).toBe(true);
    client.close(net.now, 0, '');
    expect(net.client.endpoint.isLent).toBe(false);
    net.client.endpoint.outbound.arena.bytes.fill(9);
    net.run(Seconds(20));
    expect(serverSide.datagrams.every((datagram) => datagram[0] === 1)).toBe(true);
    expect(serverSide.datagramCount).toBeLessThan(100);
    expect(client.lendDatagrams(net.now, 1)).toBe(0);
    expect(net.client.endpoint.isLent).toBe(false);
  });

  it('are refused and counted like others', () => {
    const net = makeNet(certs, { client: { datagramSendBuffer: 64 * 1024 } });
    const { client } = net.establish();
    const { table, arena } = net.client.endpoint.outbound;
    table.set([arena.size - 10, 11, 0, 5000, 0, 10]);
    expect(client.lendDatagrams(net.now, 3)).toBe(1);
    expect(net.client.endpoint.counters()).toMatchObject({ datagramsUnsendable: 1, datagramsTooLarge: 1 });
    put(net, 0, 100, 1);
    const queued = client.lendDatagrams(net.now, 100);
    expect(queued).toBeLessThan(66);
    expect(net.client.endpoint.counters().datagramsBlocked).toBe(100 - queued);
    net.run(Millis(50));
    expect(net.client.endpoint.isLent).toBe(false);
  });
});
