/** TCP through agent, relay and connector to a backend: dialling, both directions, half-close, back-pressure, loss. */
import { afterEach, expect, test } from 'vitest';
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { EHOSTUNREACH, ENETUNREACH, ETIMEDOUT } from '../../src/os/io.js';
import { App, pattern } from '../support/app.js';
import { BACKEND, connected, type Scene, scene, WEB } from './fixtures.js';

let current: Scene | undefined;
const made = async (...args: Parameters<typeof scene>): Promise<Scene> => {
  current = await scene(...args);
  return current;
};
/** Whatever a test did: a stream that is closed is watched by nobody, and nothing is left half open. */
afterEach(() => {
  const { connector } = current!;
  current = undefined;
  for (const session of connector.sessions) session.flows.close();
  expect(connector.host.sockets.streams.every((stream) => stream.closed !== undefined)).toBe(true);
});

test('bytes go both ways, unchanged', async () => {
  const it = await made();
  const { app, stream } = connected(it);
  app.say(pattern(300_000));
  stream.say(pattern(200_000, 2));
  expect(it.world.until(() => stream.receivedBytes === 300_000 && app.receivedBytes === 200_000)).toBe(true);
  expect(Buffer.compare(stream.received, pattern(300_000))).toBe(0);
  expect(Buffer.compare(app.received, pattern(200_000, 2))).toBe(0);
  expect(it.connector.core.flowCounters.get('tcp_opened')).toBe(1);
  const [session] = it.connector.sessions;
  const [flow, ...others] = session!.flows.tcp.list(2);
  expect(flow).toMatchObject({ state: 'open', sendPaused: false, bytesIn: 300_000, bytesOut: 200_000 });
  expect([String(SocketAddress.read(flow!.words, 1)), others]).toEqual([WEB, []]);
});

test('the service’s address is asked in either family, the backend hears from the connector alone', async () => {
  const it = await made();
  const { app, stream } = connected(it, '[fd00:1:2::1]:80');
  stream.say('six');
  expect(it.world.until(() => app.text() === 'six')).toBe(true);
  expect(stream.to.toString()).toBe(BACKEND);
});

test('a SYN is answered when, and only when, the backend has been reached', async () => {
  const it = await made();
  const backend = it.connector.host.sockets.tcpBackend(BACKEND);
  backend.delay = Seconds(3);
  const app = new App(it.agent, WEB);
  it.world.run(Seconds(2.5));
  expect(it.connector.host.sockets.streams.length).toBe(1);
  expect(app.connected).toBe(false);
  expect(it.world.until(() => app.connected, Seconds(1))).toBe(true);
  expect(backend.streams.length).toBe(1);
});

test('a backend that refuses is a reset', async () => {
  const it = await made();
  const app = new App(it.agent, '10.100.0.3:81');
  expect(it.world.until(() => app.closed !== undefined, Seconds(1))).toBe(true);
  expect(app.closed).toBe('refused');
  expect(it.connector.core.flowCounters.snapshot()).toMatchObject({ tcp_dial_refused: 1 });
});

test.each([EHOSTUNREACH, ENETUNREACH])('a backend that cannot be reached (errno %i) is told as such', async (errno) => {
  const it = await made();
  it.connector.host.sockets.tcpBackend(BACKEND).result = -errno;
  const app = new App(it.agent, WEB);
  it.world.run(Seconds(1));
  expect(it.connector.core.flowCounters.snapshot()).toMatchObject({ tcp_dial_unreachable: 1 });
  expect(app.closed).toBe('unreachable');
});

test('a backend that never answers is silence; after 10 s the attempt is given up', async () => {
  const it = await made();
  it.connector.host.sockets.tcpBackend(BACKEND).result = undefined;
  const app = new App(it.agent, WEB);
  it.world.run(Seconds(9));
  expect(it.connector.host.sockets.streams.length).toBe(1);
  expect(it.connector.host.sockets.streams[0]!.closed).toBeUndefined();
  it.world.run(Seconds(2));
  expect(it.connector.host.sockets.streams[0]!.closed).toBe('abort');
  expect(it.connector.core.flowCounters.get('tcp_dial_timeout')).toBe(1);
  expect(app.closed).toBeUndefined();
  expect(app.connected).toBe(false);
});

test('a kernel’s own timeout is silence too', async () => {
  const it = await made();
  it.connector.host.sockets.tcpBackend(BACKEND).result = -ETIMEDOUT;
  const app = new App(it.agent, WEB);
  it.world.run(Seconds(0.5));
  expect(it.connector.core.flowCounters.get('tcp_dial_timeout')).toBe(1);
  expect(app.closed).toBeUndefined();
});

test('a service whose host name has no address is unreachable, and reachable when it has one', async () => {
  const it = await made({ connector: { services: { web: 'tcp://backend.example:8080' } } });
  const app = new App(it.agent, WEB);
  expect(it.world.until(() => app.closed !== undefined, Seconds(1))).toBe(true);
  expect(app.closed).toBe('unreachable');
  it.connector.backends.get('web')!.address = IpAddress.parse('10.0.0.5');
  connected(it);
});

test('the client ends first: the backend reads the end and may answer on', async () => {
  const it = await made();
  const { app, stream } = connected(it);
  app.say('question').end();
  expect(it.world.until(() => stream.nodeEnded)).toBe(true);
  expect(stream.text()).toBe('question');
  it.world.run(Seconds(3));
  expect(app.closed).toBeUndefined();
  stream.say(pattern(50_000));
  stream.end();
  expect(it.world.until(() => app.peerClosed)).toBe(true);
  expect(app.receivedBytes).toBe(50_000);
  expect(it.world.until(() => stream.closed !== undefined, Seconds(5))).toBe(true);
  expect(stream.closed).toBe('close');
});

test('the backend ends first: the client reads the end and may speak on', async () => {
  const it = await made();
  const { app, stream } = connected(it);
  stream.say('greeting');
  stream.end();
  expect(it.world.until(() => app.peerClosed)).toBe(true);
  expect(app.text()).toBe('greeting');
  it.world.run(Seconds(3));
  app.say(pattern(50_000)).end();
  expect(it.world.until(() => stream.nodeEnded)).toBe(true);
  expect(stream.receivedBytes).toBe(50_000);
  expect(it.world.until(() => stream.closed !== undefined, Seconds(5))).toBe(true);
  expect(stream.closed).toBe('close');
});

test('a reset of either end resets the other', async () => {
  const it = await made();
  const one = connected(it);
  one.stream.reset();
  expect(it.world.until(() => one.app.closed !== undefined, Seconds(1))).toBe(true);
  expect(one.app.closed).toBe('reset');
  const two = connected(it);
  two.app.abort();
  expect(it.world.until(() => two.stream.closed !== undefined, Seconds(1))).toBe(true);
  expect(two.stream.closed).toBe('abort');
});

test('a backend that does not read makes the client wait, and loses nothing', async () => {
  const it = await made();
  const { app, stream } = connected(it);
  stream.room = 10_000;
  const whole = pattern(12_000_000);
  app.say(whole);
  it.world.run(Seconds(5));
  expect(stream.receivedBytes).toBe(10_000);
  expect(app.unsent).toBeGreaterThan(1_000_000);
  const stalled = app.unsent;
  it.world.run(Seconds(20));
  expect(app.unsent).toBe(stalled);
  // A slow reader: the rest comes through at its pace.
  for (let i = 0; i < 200 && stream.receivedBytes < whole.length; i++) {
    stream.room += 100_000;
    it.world.run(Millis(100));
  }
  stream.room = Number.POSITIVE_INFINITY;
  expect(it.world.until(() => stream.receivedBytes === whole.length, Seconds(30))).toBe(true);
  expect(Buffer.compare(stream.received, whole)).toBe(0);
});

test('a client that does not read makes the backend wait, and loses nothing', async () => {
  const it = await made();
  const { app, stream } = connected(it);
  app.reads = false;
  const whole = pattern(24_000_000, 3);
  stream.say(whole);
  it.world.run(Seconds(5));
  expect(app.receivedBytes).toBe(0);
  const unread = stream.unread;
  expect(unread).toBeGreaterThan(1_000_000);
  it.world.run(Seconds(10));
  expect(stream.unread).toBe(unread);
  app.read();
  expect(it.world.until(() => app.receivedBytes === whole.length, Seconds(30))).toBe(true);
  expect(Buffer.compare(app.received, whole)).toBe(0);
});

test('a path that loses 2 % of the packets delays and loses nothing', async () => {
  const it = await made({ world: { seed: 11 } });
  const { app, stream } = connected(it);
  it.agent.host.path.loss = 0.02;
  app.say(pattern(1_000_000));
  stream.say(pattern(1_000_000, 2));
  expect(it.world.until(() => stream.receivedBytes === 1_000_000 && app.receivedBytes === 1_000_000, Seconds(60))).toBe(
    true,
  );
  expect(Buffer.compare(stream.received, pattern(1_000_000))).toBe(0);
  expect(Buffer.compare(app.received, pattern(1_000_000, 2))).toBe(0);
});
