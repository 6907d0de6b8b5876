/** Direct links: made beside the relay's, left when they die, made again. */
import { describe, expect, test } from 'vitest';
import { elapsed, later, Millis, Seconds, toSeconds } from '../../src/base/time.js';
import { connected, type Scene, SERVICES, scene } from '../connector/fixtures.js';
import { App, pattern } from '../support/app.js';
import { NAT_KINDS, SimNat } from '../support/sim-nat.js';

const AUTO = { direct: { path: 'auto' } } as const;

const direct = (options: Parameters<typeof scene>[0] = {}): Promise<Scene> =>
  scene({ ...options, agent: { ...AUTO, ...options.agent }, connector: { ...AUTO, ...options.connector } });

const isDirect = ({ agent, connector }: Scene): boolean =>
  agent.session('c1')?.link?.isDirect === true && connector.sessions[0]?.link?.isDirect === true;

const PUNCH_FRAME = 0x11;

/** A connection that goes by a direct link. */
async function settled(options: Parameters<typeof scene>[0] = {}) {
  const it = await direct(options);
  const flow = connected(it);
  expect(it.world.until(() => isDirect(it), Seconds(2))).toBe(true);
  return { it, session: it.agent.session('c1')!, ...flow };
}

/** Nothing passes between agent and connector but through the relay; or everything again. */
function cut({ world, agent, connector }: Scene, isCut: boolean): void {
  const nodes = [agent, connector].flatMap(({ udp }) => udp.map(({ external }) => external.ip.toString()));
  world.network.filter = isCut
    ? ({ from, to }) => !(nodes.includes(from.ip.toString()) && nodes.includes(to.ip.toString()))
    : undefined;
}

test('two nodes that reach each other get a direct link, and the relay’s channel falls silent', async () => {
  const { it, session, app, stream } = await settled();
  it.world.run(Seconds(3));
  const { packetsIn, packetsOut } = session.relayed!;
  app.say(new Uint8Array(200_000));
  expect(it.world.until(() => stream.receivedBytes === 200_000, Seconds(5))).toBe(true);
  expect([session.relayed!.packetsIn, session.relayed!.packetsOut]).toEqual([packetsIn, packetsOut]);
  expect(session.link!.packetsOut).toBeGreaterThan(100);
  expect(session.direct.reason).toBe('best_rank');
  expect(it.connector.core.links.size).toBe(1);
});

test('it is made within a second of the first packet, on a pair that was proved just before', async () => {
  const it = await direct();
  const since = it.world.now;
  connected(it);
  expect(it.world.until(() => isDirect(it), Seconds(2))).toBe(true);
  expect(toSeconds(elapsed(since, it.world.now))).toBeLessThan(1);
});

test('IPv6 carries it when both ends have it and both ways are as long', async () => {
  const { session } = await settled({
    world: { dualStack: true },
    agent: { v6: '2001:db8:1::2' },
    connector: { v6: '2001:db8:2::2' },
  });
  expect(session.link!.connection.remote.ip.toString()).toBe('2001:db8:2::2');
});

test('a path that is cut is left for the relay within two seconds, and taken again when it is back', async () => {
  const { it, session, app, stream } = await settled();
  app.say(pattern(3_000_000));
  expect(it.world.until(() => stream.receivedBytes > 300_000, Seconds(5))).toBe(true);
  cut(it, true);
  const since = it.world.now;
  expect(it.world.until(() => session.link === session.relayed, Seconds(5))).toBe(true);
  expect(toSeconds(elapsed(since, it.world.now))).toBeLessThan(2);
  expect(it.world.until(() => stream.receivedBytes === 3_000_000, Seconds(20))).toBe(true);
  cut(it, false);
  expect(it.world.until(() => isDirect(it), Seconds(20))).toBe(true);
  app.say('more');
  expect(it.world.until(() => stream.receivedBytes === 3_000_004, Seconds(5))).toBe(true);
});

test('a direct link that is dead for 15 s is closed, punched for ever less often, and made anew', async () => {
  const { it, session, app } = await settled();
  cut(it, true);
  app.say('x');
  const dead = session.direct.link;
  const since = it.world.now;
  expect(it.world.until(() => session.direct.link === undefined, Seconds(30))).toBe(true);
  expect(toSeconds(elapsed(since, it.world.now))).toBeGreaterThan(14);
  expect(it.world.until(() => session.direct.reason.startsWith('direct_unproved'), Seconds(10))).toBe(true);
  const { counters } = it.agent.core.punching;
  it.world.run(Seconds(30));
  const rounds = counters.get('rounds');
  it.world.run(Seconds(300));
  expect(counters.get('rounds') - rounds).toBeLessThanOrEqual(7);
  expect(counters.get('rounds') - rounds).toBeGreaterThanOrEqual(1);
  cut(it, false);
  expect(it.world.until(() => isDirect(it), Seconds(400))).toBe(true);
  expect(session.link).not.toBe(dead);
  expect([...it.connector.sessions[0]!.links].filter((link) => link.isDirect).length).toBe(1);
});

test('a way that lets through punches and nothing else: status says that it is the handshake that fails', async () => {
  const it = await direct();
  cut(it, true);
  const isCut = it.world.network.filter!;
  it.world.network.filter = (packet) => packet.bytes[0] === PUNCH_FRAME || isCut(packet);
  connected(it);
  const { direct: side } = it.agent.session('c1')!;
  const isToldSo = (): boolean => side.reason === 'handshake_failed: waits until it is tried again';
  expect(it.world.until(isToldSo, Seconds(20))).toBe(true);
  cut(it, false);
  expect(it.world.until(() => isDirect(it), Seconds(100))).toBe(true);
});

test('the relay may go and come back: packets go on directly, no flow notices', async () => {
  const { it, session, app, stream } = await settled();
  it.world.relay.host.path.isDown = true;
  app.say(pattern(1_000_000));
  expect(it.world.until(() => stream.receivedBytes === 1_000_000, Seconds(10))).toBe(true);
  it.world.run(Seconds(120));
  expect(it.agent.core.relay.state).not.toBe('ready');
  app.say('still');
  expect(it.world.until(() => stream.receivedBytes === 1_000_005, Seconds(5))).toBe(true);
  expect([session.state, session.relayed]).toEqual(['live', undefined]);
  it.world.relay.host.path.isDown = false;
  expect(it.world.until(() => session.relayed?.isLive === true, Seconds(60))).toBe(true);
  expect(session.link!.isDirect).toBe(true);
  expect(it.agent.eventsOf('session').map(({ to }) => to)).toEqual(['opening', 'linking', 'live']);
});

test('a restarted connector is another session’s: direct links of the old one are dropped', async () => {
  const { it, session, app } = await settled();
  it.connector.host.kill();
  const again = await it.world.connector('c1', { services: SERVICES, ...AUTO }, it.connector.credentials);
  app.say('still me');
  expect(it.world.until(() => app.closed !== undefined || session.relayed?.isLive === true, Seconds(60))).toBe(true);
  expect(
    it.world.until(() => session.direct.link?.connection.remote.equals(again.udp[0]!.external) === true, Seconds(60)),
  ).toBe(true);
});

describe('--path', () => {
  test.each([
    ['the agent', { agent: { direct: { path: 'relay' } } }],
    ['the connector', { connector: { direct: { path: 'relay' } } }],
  ] as const)('relay at %s: no punch leaves either end', async (who, options) => {
    const it = await direct(options);
    connected(it);
    it.world.run(Seconds(10));
    expect(it.agent.session('c1')!.link!.isDirect).toBe(false);
    expect(it.agent.core.punching.counters.get('sent')).toBe(0);
    expect(it.connector.core.punching.counters.get('sent')).toBe(0);
    if (who === 'the agent') expect(it.agent.session('c1')!.direct.reason).toBe('operator');
  });

  test('direct: packets wait for a direct link, and never take the relay’s', async () => {
    const it = await direct({ agent: { direct: { path: 'direct' } } });
    cut(it, true);
    it.connector.host.sockets.tcpBackend('10.0.0.5:8080');
    const app = new App(it.agent, '10.100.0.1:80');
    expect(it.world.until(() => app.connected, Seconds(5))).toBe(false);
    const session = it.agent.session('c1')!;
    expect([session.state, session.relayed!.isLive, session.relayed!.packetsOut]).toEqual(['linking', true, 0]);
    cut(it, false);
    expect(it.world.until(() => app.connected, Seconds(30))).toBe(true);
    expect(session.relayed!.packetsOut).toBe(0);
  });
});

describe('a network that changes', () => {
  test('another address of the agent: the connector is told, and a round begins at once', async () => {
    const { it, session, app } = await settled();
    cut(it, true);
    app.say('x');
    expect(it.world.until(() => session.direct.failedRounds > 3, Seconds(200))).toBe(true);
    cut(it, false);
    const { candidates } = it.agent.core.punching;
    it.agent.core.setNetwork(it.world.now, {
      addresses: [candidates[0]!.address.ip.toString(), '198.51.100.250'],
      routes: [{ prefix: '0.0.0.0/0', via: 'eth0', isTunnel: false }],
    });
    it.agent.host.reactor.wake();
    expect(it.world.until(() => isDirect(it), Seconds(2))).toBe(true);
    expect(it.connector.sessions[0]!.path.puncher.pairs.all.map(({ address }) => address.ip.toString())).toContain(
      '198.51.100.250',
    );
  });

  test.each([
    ['agent', 120],
    ['agent', 5],
    ['connector', 120],
    // While the refusal of a link that the agent asked for meanwhile would still bar it.
    ['connector', 5],
  ] as const)(
    'routes of the %s that are away for %i s, as at a change of the uplink: direct again as soon as they are back',
    async (who, seconds) => {
      // Nothing of the peer's comes in unasked: only what is punched from here opens the way.
      const nat = new SimNat(10, NAT_KINDS.moderate);
      const { it, session } = await settled({ [who]: { ...AUTO, nat } });
      const addresses = [it[who].udp[0]!.local.ip.toString()];
      const set = (...prefixes: string[]): void => {
        const routes = prefixes.map((prefix) => ({ prefix, via: 'eth0', isTunnel: false }));
        it[who].core.setNetwork(it.world.now, { addresses, routes });
        it[who].host.reactor.wake();
      };
      set();
      it.world.run(Seconds(seconds));
      expect(isDirect(it)).toBe(false);
      expect(session.link).toBe(session.relayed);
      nat.restart();
      set('0.0.0.0/0');
      expect(it.world.until(() => isDirect(it), Seconds(5))).toBe(true);
    },
  );

  test('a route into a tunnel: links there are closed at once, and nothing is punched', async () => {
    const { it, session } = await settled();
    const { ip } = it.connector.udp[0]!.external;
    it.agent.core.setNetwork(it.world.now, {
      addresses: [it.agent.udp[0]!.local.ip.toString()],
      routes: [
        { prefix: '0.0.0.0/0', via: 'eth0', isTunnel: false },
        { prefix: `${ip}/32`, via: 'tun0', isTunnel: true },
      ],
    });
    it.agent.host.reactor.wake();
    expect(it.world.until(() => session.direct.link === undefined, Millis(100))).toBe(true);
    expect(session.link).toBe(session.relayed);
    const { counters, refusals } = it.agent.core.punching;
    const before = counters.get('sent');
    it.world.run(Seconds(60));
    expect(counters.get('sent')).toBe(before);
    expect(refusals.get('tunnel')).toBeGreaterThan(0);
    expect(session.direct.link).toBeUndefined();
  });

  test('a router that has forgotten everything while the machine slept: direct again in seconds', async () => {
    const nat = new SimNat(10, NAT_KINDS.strict);
    const { it, session, app, stream } = await settled({ agent: { ...AUTO, nat } });
    const asleep = session.direct.link;
    nat.restart();
    it.agent.core.suspect(it.world.now);
    it.agent.host.reactor.wake();
    app.say('awake');
    expect(it.world.until(() => stream.text() === 'awake', Seconds(5))).toBe(true);
    const isAnew = (): boolean => isDirect(it) && session.link !== asleep;
    expect(it.world.until(isAnew, Seconds(10))).toBe(true);
  });
});

test('five sixths into its certificates’ lives a direct link is replaced by another, without a pause', async () => {
  const { it, session, app, stream } = await settled();
  const first = session.direct.link!;
  first.renewAt = later(it.world.now, Seconds(1));
  const total = 3_000_000;
  app.say(pattern(total));
  expect(it.world.until(() => session.direct.link !== first, Seconds(5))).toBe(true);
  expect(session.link).toBe(session.direct.link);
  expect(it.world.until(() => stream.receivedBytes === total, Seconds(10))).toBe(true);
  it.world.run(Seconds(2));
  expect(first.state).toBe('closed');
  expect([...it.connector.sessions[0]!.links].filter((link) => link.isDirect).length).toBe(1);
});
