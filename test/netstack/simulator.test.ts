/**
 * Random networks: loss, reordering, duplicates and damaged packets both ways, random read and write sizes, slow readers.
 * Every run must end with every byte delivered exactly once, in order. SEEDS sets how many networks are tried, SEED tries one.
 */
import { expect, test } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { type Duration, Micros, Millis, Minutes } from '../../src/base/time.js';
import { Collector, Feeder, Network, pattern, SERVER, socket } from './harness.js';

const SEEDS = Number(process.env['SEEDS'] ?? 100);
const ONLY = process.env['SEED'];

function simulate(seed: number): void {
  const random = new SeededEntropy(seed);
  const chance = (p: number): boolean => random.unit() < p;
  const pick = <T>(...items: T[]): T => items[Math.floor(random.unit() * items.length)]!;
  const loss = pick(0, 0.01, 0.05, 0.1, 0.2, 0.3);
  const reorder = pick(0, 0, 0.05, 0.3);
  const duplicate = pick(0, 0, 0.05);
  const corrupt = pick(0, 0, 0.02);
  const delay = pick(0.1, 2, 20, 100);
  const small = loss > 0.1;
  const options = () => ({
    mtu: pick(1280, 1400, 9000),
    tcp: {
      sack: chance(0.7),
      timestamps: chance(0.7),
      windowScaling: chance(0.7),
      congestion: pick('cubic' as const, 'newreno' as const, 'bbr' as const),
      receiveInitial: pick(4096, 65_536, 262_144),
      receiveMax: pick(262_144, 4_194_304),
      superSegment: pick(65_535, 1),
      // A run of lost packets may last longer than the pause that ends an idle half.
      halfClosedTimeout: Micros(0),
      keepaliveIdle: Micros(0),
    },
  });
  const net = new Network({ ...options(), seed: seed * 2 + 1 }, { ...options(), seed: seed * 2 + 2 }, Millis(delay));
  net.impair = (packet) => {
    if (chance(loss)) return [];
    const late = (): Duration => Micros(Millis(delay) * (1 + (chance(reorder) ? random.unit() * 2 : 0)));
    let damaged = packet;
    if (chance(corrupt)) {
      damaged = packet.slice();
      // Not the IP version and lengths of a v4 header (it has a checksum of its own), but anything TCP's covers.
      const at = 20 + Math.floor(random.unit() * (packet.length - 20));
      damaged[at] = damaged[at]! ^ (1 << Math.floor(random.unit() * 8));
    }
    const copies = [{ packet: damaged, delay: late() }];
    if (chance(duplicate)) copies.push({ packet, delay: late() });
    return copies;
  };
  const serverSide = new Collector();
  const clientSide = new Collector();
  net.server.handlers.onSyn = (request) => {
    serverSide.connection = request.accept(serverSide);
  };
  const connection = net.client.stack.connect(net.now, socket(`${SERVER}:80`), clientSide);
  clientSide.connection = connection;
  const size = () => Math.floor(random.unit() * (small ? 60_000 : 400_000));
  const up = new Feeder(connection, pattern(seed, size()), true);
  const downData = pattern(seed + 1, size());
  let down: Feeder | undefined;
  const slow = chance(0.4);
  if (slow) serverSide.limit = clientSide.limit = 3000;
  const busy = (): boolean =>
    up.at < up.data.length ||
    down === undefined ||
    down.at < downData.length ||
    connection.readable > 0 ||
    (serverSide.connection?.readable ?? 0) > 0;
  const act = (): boolean => {
    if (serverSide.connection !== undefined && down === undefined) {
      down = new Feeder(serverSide.connection, downData, true);
    }
    if (chance(0.5)) up.feed(Math.floor(random.unit() * 20_000));
    if (chance(0.5)) down?.feed(Math.floor(random.unit() * 20_000));
    if (slow && chance(0.2)) {
      clientSide.limit = 1 + Math.floor(random.unit() * 9000);
      connection.pull();
    }
    if (slow && chance(0.2)) {
      serverSide.limit = 1 + Math.floor(random.unit() * 9000);
      serverSide.connection?.pull();
    }
    return clientSide.closed !== undefined && serverSide.closed !== undefined;
  };
  // Writers and readers act at every event, and on a beat of their own while they have something to do.
  const done = net.run(Minutes(60), act, () => (busy() ? Millis(1 + random.unit() * 40) : undefined));
  const report = `[${clientSide.closed} ${serverSide.closed} at ${net.now / 1e6}] seed ${seed}: loss ${loss} reorder ${reorder} dup ${duplicate} corrupt ${corrupt} delay ${delay} slow ${slow}`;
  if (clientSide.closed === 'timeout' && clientSide.connected === 0) return;
  expect(done, `${report}: did not finish (${net.client.stack.flows}, ${net.server.stack.flows})`).toBe(true);
  expect(Buffer.compare(serverSide.bytes(), up.data.subarray(0, serverSide.total)), `${report}: up differs`).toBe(0);
  expect(Buffer.compare(clientSide.bytes(), downData.subarray(0, clientSide.total)), `${report}: down differs`).toBe(0);
  // An end that was cut off may only be so after both streams were complete (a lost last ACK beyond TIME-WAIT).
  expect([serverSide.total, clientSide.total], report).toEqual([up.data.length, downData.length]);
  expect(['finished', 'reset', 'idle', 'timeout'], report).toContain(clientSide.closed);
  expect(net.client.stack.pool.lentBytes + net.server.stack.pool.lentBytes, report).toBe(0);
}

test(`${ONLY ?? SEEDS} random networks deliver every byte`, () => {
  if (ONLY !== undefined) simulate(Number(ONLY));
  else for (let seed = 1; seed <= SEEDS; seed++) simulate(seed);
});
