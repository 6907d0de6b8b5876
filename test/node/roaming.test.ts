/** A node that moves and sleeps: its session and its flows go on, and nothing of where it has been piles up. */
import { expect, test } from 'vitest';
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { elapsed, type Instant, later, Millis, Minutes, Seconds, toMillis } from '../../src/base/time.js';
import { connected, type Scene } from '../connector/fixtures.js';
import { pattern } from '../support/app.js';
import { NAT_KINDS, SimNat } from '../support/sim-nat.js';
import { bothUse, directScene } from './direct-scene.js';

const MOVES = 64;
/** Between two of them. */
const STAY = Millis(800);
/** What a node may be silent for when it has moved; in milliseconds. */
const LONGEST_PAUSE_MS = 1000;
const CHUNK = 2000;
const EVERY = Millis(100);

/** The agent's host is in another network: another address, and the old one is gone. */
function move({ world, agent }: Scene, ip: string): void {
  const [socket] = agent.udp;
  socket!.rebind(new SocketAddress(IpAddress.parse(ip)!, socket!.external.port));
  agent.core.setNetwork(world.now, {
    addresses: [ip],
    routes: [{ prefix: '0.0.0.0/0', via: `wifi ${ip}`, isTunnel: false }],
  });
  agent.host.reactor.wake();
}

test('64 addresses in a row under a download: the flow goes on after each, and in the end all is as it was', async () => {
  const it = await directScene();
  const { world, agent, connector } = it;
  const { app, stream } = connected(it);
  expect(world.until(() => bothUse(it, 'direct'), Seconds(3))).toBe(true);
  let said = 0;
  let arrivedAt: Instant = world.now;
  let arrived = 0;
  let longest = 0;
  const stay = (span = STAY): void => {
    for (const end = later(world.now, span); world.now < end; world.run(EVERY)) {
      stream.say(pattern(CHUNK));
      said += CHUNK;
      longest = Math.max(longest, toMillis(elapsed(arrivedAt, world.now)));
      if (app.receivedBytes === arrived) continue;
      arrived = app.receivedBytes;
      arrivedAt = world.now;
    }
  };
  for (let i = 0; i < MOVES; i++) {
    move(it, `198.51.100.${100 + i}`);
    stay();
  }
  expect(longest).toBeLessThan(LONGEST_PAUSE_MS);
  expect(world.until(() => app.receivedBytes === said, Seconds(5))).toBe(true);
  expect(
    Buffer.from(app.received).equals(Buffer.concat(Array.from({ length: said / CHUNK }, () => pattern(CHUNK)))),
  ).toBe(true);
  expect(agent.eventsOf('session').map(({ to }) => to)).toEqual(['opening', 'linking', 'live']);
  stay(Seconds(20));
  expect(bothUse(it, 'direct')).toBe(true);
  expect(agent.core.punching.candidates.map(({ address }) => address.ip.toString())).toEqual(['198.51.100.163']);
  expect(agent.core.relay.state).toBe('ready');
  expect(world.until(() => connector.sessions[0]!.links.size === 2, Seconds(60))).toBe(true);
  expect([...agent.session('c1')!.allLinks()].length).toBe(2);
});

test('64 addresses within a second: only the last one counts', async () => {
  const it = await directScene();
  const { world, agent, connector } = it;
  const { app, stream } = connected(it);
  expect(world.until(() => bothUse(it, 'direct'), Seconds(3))).toBe(true);
  for (let i = 0; i < MOVES; i++) {
    move(it, `198.51.100.${100 + i}`);
    world.run(Millis(15));
  }
  stream.say('still there');
  app.say('here');
  expect(world.until(() => app.text() === 'still there' && stream.text() === 'here', Seconds(2))).toBe(true);
  const isThere = (): boolean => connector.sessions[0]!.link?.connection.remote.ip.toString() === '198.51.100.163';
  expect(world.until(() => bothUse(it, 'direct') && isThere(), Seconds(30))).toBe(true);
  expect(agent.eventsOf('session').map(({ to }) => to)).toEqual(['opening', 'linking', 'live']);
});

test.each([
  ['a machine that sleeps: its monotonic clock stands still', true],
  ['a process that is stopped: its clock goes on', false],
])('ten minutes, %s: session and flow go on', async (_, isAsleep) => {
  const nat = new SimNat(10, NAT_KINDS.moderate);
  const it = await directScene({ agent: { nat } });
  const { world, agent, connector } = it;
  const { app, stream } = connected(it);
  expect(world.until(() => bothUse(it, 'direct'), Seconds(3))).toBe(true);
  const { id } = agent.session('c1')!;
  agent.host.isRunning = false;
  agent.host.path.isDown = true;
  world.run(Minutes(5));
  stream.say('said meanwhile');
  world.run(Minutes(5));
  nat.restart();
  agent.host.path.isDown = false;
  if (isAsleep) agent.host.reactor.slept = Minutes(10);
  agent.host.isRunning = true;
  const awake = world.now;
  expect(world.until(() => app.text() === 'said meanwhile', Seconds(10))).toBe(true);
  app.say('awake');
  expect(world.until(() => stream.text() === 'awake', Seconds(5))).toBe(true);
  expect(world.until(() => bothUse(it, 'direct') && agent.core.relay.state === 'ready', Seconds(20))).toBe(true);
  expect(toMillis(elapsed(awake, world.now))).toBeLessThan(20_000);
  expect([agent.session('c1')!.id, connector.sessions.length]).toEqual([id, 1]);
  expect(app.closed).toBeUndefined();
});
