import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { Collector, Feeder, Network, pattern, SERVER, socket } from './harness.js';

for (const address of [`${SERVER}:80`, '[fd00::2]:80']) {
  test(`handshake, transfer both ways, orderly close over ${address}`, () => {
    const net = new Network();
    const serverSide = new Collector();
    net.server.handlers.onSyn = (request) => {
      serverSide.connection = request.accept(serverSide);
    };
    const clientSide = new Collector();
    const connection = net.client.stack.connect(net.now, socket(address), clientSide);
    expect(net.run(Seconds(1), () => clientSide.connected === 1 && serverSide.connected === 1)).toBe(true);
    expect(connection.roundTrip).toBeCloseTo(Millis(20), 3);
    const up = new Feeder(connection, pattern(1, 3_000_000), true);
    const down = new Feeder(serverSide.connection!, pattern(2, 1_000_000), true);
    const done = net.run(Seconds(60), () => {
      up.feed();
      down.feed();
      return clientSide.closed !== undefined && serverSide.closed !== undefined;
    });
    expect(done).toBe(true);
    expect(Buffer.compare(serverSide.bytes(), up.data)).toBe(0);
    expect(Buffer.compare(clientSide.bytes(), down.data)).toBe(0);
    expect([clientSide.closed, serverSide.closed]).toEqual(['finished', 'finished']);
    expect(net.client.stack.counters.stack.get('tcp_retransmits')).toBe(0);
    net.run(Seconds(5));
    expect(net.client.stack.flows + net.server.stack.flows).toBe(0);
    expect(net.client.stack.pool.lentBytes + net.server.stack.pool.lentBytes).toBe(0);
  });
}

test('what a send buffer has grown by is others’ again as soon as all of it is acknowledged', () => {
  const net = new Network();
  const { pool } = net.client.stack;
  const serverSide = new Collector();
  net.server.handlers.onSyn = (request) => {
    serverSide.connection = request.accept(serverSide);
  };
  const clientSide = new Collector();
  const connection = net.client.stack.connect(net.now, socket(`${SERVER}:80`), clientSide);
  net.run(Seconds(1), () => clientSide.connected === 1);
  let promised = 0;
  const { promise, release } = pool;
  pool.promise = (bytes) => {
    promised += bytes;
    return promise.call(pool, bytes);
  };
  pool.release = (bytes) => {
    promised -= bytes;
    release.call(pool, bytes);
  };
  const up = new Feeder(connection, pattern(1, 3_000_000), false);
  let most = 0;
  net.run(Seconds(60), () => {
    up.feed();
    most = Math.max(most, promised);
    return serverSide.bytes().length === up.data.length && pool.lentBytes === 0;
  });
  expect(most).toBeGreaterThan(100_000);
  expect([promised, pool.lentBytes]).toEqual([0, 0]);
});
