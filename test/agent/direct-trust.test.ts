/** Whom an agent punches, and what it believes of where it is: lists of a hostile connector, words of a lying relay. */
import { expect, test } from 'vitest';
import { Minutes, Seconds } from '../../src/base/time.js';
import { Frame } from '../../src/tunnel/frames.js';
import { PUNCH_LENGTH } from '../../src/tunnel/punch/punch-frame.js';
import { connected, scene } from '../connector/fixtures.js';
import { udpPacket } from '../support/packets.js';
import { at, type SimAgent } from '../support/sim-nodes.js';
import { World } from '../support/world.js';
import { live, lyingConnector, overlay, welcome } from './fixtures.js';

const direct = { path: 'auto' } as const;
const TOKEN = '0f'.repeat(16);
/** Rounds back off: 2, 4, 8 … 256, 300 s, each a quarter earlier at most. */
const ROUNDS_IN_TEN_MINUTES = 12;
const REQUESTS_PER_ROUND = 5;

/** PUNCHes by their target. */
function watch(world: World): Map<string, number> {
  const punched = new Map<string, number>();
  world.network.filter = ({ to, bytes }) => {
    if (bytes[0] === Frame.punch) {
      expect(bytes.length).toBe(PUNCH_LENGTH);
      punched.set(String(to), (punched.get(String(to)) ?? 0) + 1);
    }
    return true;
  };
  return punched;
}

async function greeted() {
  const world = await World.create();
  const node = await lyingConnector(world, 'c1', ['web', 'dns', 'box', 'pair']);
  const agent = await world.agent('alice', { tun: true, direct });
  expect(world.until(() => agent.core.available.has('web'))).toBe(true);
  agent.tun!.send(udpPacket({ from: overlay(agent), to: '10.100.0.2' }, 4000, 53, 'first'));
  expect(world.until(() => node.accepted[0]?.of('hello').length === 1)).toBe(true);
  const link = node.accepted[0]!;
  welcome(node, link);
  expect(live(world, agent)).toBe(true);
  const tell = (...candidates: { address: string; port: number }[]): void => {
    const more = { kind: 'host', priority: 1 };
    link.say({ type: 'punch', n: tell.n++, token: TOKEN, candidates: candidates.map((one) => ({ ...more, ...one })) });
    node.host.reactor.wake();
    world.run(Seconds(5));
  };
  tell.n = 0;
  return { world, node, agent, link, tell };
}

const refusals = (agent: SimAgent) => agent.core.punching.refusals.snapshot();

test('a hostile list: nothing of it is punched, every refusal is counted', async () => {
  const { world, agent, tell } = await greeted();
  const punched = watch(world);
  const relay = world.relay.addresses[0]!;
  const own = agent.udp[0]!.local;
  tell(
    { address: '127.0.0.1', port: 22 },
    { address: '::1', port: 22 },
    { address: '224.0.0.251', port: 5353 },
    { address: '255.255.255.255', port: 67 },
    { address: '10.0.0.1', port: 80 },
    { address: '192.168.1.1', port: 80 },
    { address: '169.254.169.254', port: 80 },
    { address: '::ffff:127.0.0.1', port: 22 },
    { address: 'fd53:616c:6c79::1', port: 1 },
    { address: String(relay.ip), port: relay.port },
    { address: String(own.ip), port: own.port },
    { address: 'example.com', port: 80 },
    { address: '203.0.113.1', port: 0 },
  );
  expect([...punched]).toEqual([]);
  expect(refusals(agent)).toEqual({ not_unicast: 5, private: 3, relay: 2, own: 1, form: 1, port: 1 });
  expect(agent.session('c1')!.direct.reason).toBe('no_candidates: not_unicast, private, relay, own, form, port');
});

test('more than 32 candidates, an older number, a token of another length: not heard at all', async () => {
  const { world, agent, link, node, tell } = await greeted();
  const punched = watch(world);
  const victim = (i: number) => ({ address: `203.0.113.${i}`, port: 80 });
  tell(...Array.from({ length: 33 }, (_, i) => victim(i)));
  tell();
  tell.n = 0;
  tell(victim(1));
  link.say({ type: 'punch', n: 9, token: '0f', candidates: [] });
  node.host.reactor.wake();
  world.run(Seconds(5));
  expect([...punched]).toEqual([]);
  expect(agent.session('c1')!.isLive).toBe(true);
});

test('a list of victims: each gets five small packets a round, and rounds become rare', async () => {
  const { world, agent, tell } = await greeted();
  const punched = watch(world);
  tell(...Array.from({ length: 32 }, (_, i) => ({ address: `203.0.113.${i + 1}`, port: 80 })));
  world.run(Minutes(10));
  expect(punched.size).toBe(32);
  for (const count of punched.values()) expect(count).toBeLessThanOrEqual(ROUNDS_IN_TEN_MINUTES * REQUESTS_PER_ROUND);
  expect(agent.session('c1')!.link!.isDirect).toBe(false);
});

test('new lists all the time make no more than two rounds a second', async () => {
  const { world, agent, link, node } = await greeted();
  const punched = watch(world);
  const candidates = [{ kind: 'host', priority: 1, address: '203.0.113.1', port: 80 }];
  for (let n = 0; n < 100; n++) {
    link.say({ type: 'punch', n, token: TOKEN, candidates });
    node.host.reactor.wake();
    world.run(Seconds(0.1));
  }
  expect(agent.core.punching.counters.get('rounds')).toBeLessThanOrEqual(21);
  expect(punched.get('203.0.113.1:80')!).toBeLessThanOrEqual(21 * REQUESTS_PER_ROUND);
});

test('a relay that lies about where both nodes are: packets go on through it, the victim gets little', async () => {
  const it = await scene({
    agent: { direct: { ...direct, hideHost: true } },
    connector: { direct: { ...direct, hideHost: true } },
  });
  const victim = at('203.0.113.66:53');
  for (const node of [it.agent, it.connector]) node.core.punching.setObserved(it.world.now, victim);
  const punched = watch(it.world);
  const seen = it.world.network.filter!;
  // It does not say the truth to who asks by PROBE either.
  it.world.network.filter = (packet) => packet.bytes[0] !== Frame.probeReply && seen(packet);
  const { app, stream } = connected(it);
  it.world.run(Minutes(10));
  expect([...punched.keys()]).toEqual([String(victim)]);
  expect(punched.get(String(victim))!).toBeLessThanOrEqual(2 * ROUNDS_IN_TEN_MINUTES * REQUESTS_PER_ROUND);
  expect(it.agent.session('c1')!.direct.reason).toMatch(/^direct_unproved/);
  app.say('still there');
  expect(it.world.until(() => stream.receivedBytes === 11, Seconds(5))).toBe(true);
});

test('hidden host candidates are told to nobody', async () => {
  const it = await scene({ agent: { direct }, connector: { direct: { ...direct, hideHost: true } } });
  connected(it);
  it.world.run(Seconds(2));
  const kinds = it.agent.session('c1')!.direct.path.puncher.pairs.all.map(({ kind }) => kind);
  expect(kinds).toEqual(['srflx']);
});

test('an advertised address is told, and is tried before what the relay saw', async () => {
  const advertise = ['203.0.113.99:4500'];
  const it = await scene({ agent: { direct }, connector: { direct: { ...direct, hideHost: true, advertise } } });
  const punched = watch(it.world);
  connected(it);
  it.world.run(Seconds(2));
  const agent = String(it.agent.udp[0]!.external);
  expect([...punched.keys()].filter((to) => to !== agent)).toEqual([
    advertise[0],
    String(it.connector.udp[0]!.external),
  ]);
});
