/** That two nodes punch as the table of docs/nat.md says, cell by cell; what they take their NATs to be. */
import { describe, expect, it, test } from 'vitest';
import { elapsed, type Instant, Millis, Seconds } from '../../src/base/time.js';
import { Frame } from '../../src/tunnel/frames.js';
import { NAT_EASES, type NatEase, punchPlan } from '../../src/tunnel/punch-plan.js';
import { connected, type Scene, scene } from '../connector/fixtures.js';
import { NAT_KINDS, SimNat } from '../support/sim-nat.js';
import { PROBE_PORT, type SimNode } from '../support/sim-nodes.js';
import { bothUse } from './direct-scene.js';

const AUTO = { path: 'auto' } as const;
const RELAY = '192.0.2.1';
const PUBLIC = '203.0.113.20';
const cells = NAT_EASES.flatMap((own) => NAT_EASES.map((peer): [NatEase, NatEase] => [own, peer]));

const punching = (node: Scene['agent'] | Scene['connector']) => node.core.punching;

/** This node takes its NAT to be so. */
const pretend = (node: Scene['agent'] | Scene['connector'], ease: NatEase): void =>
  void Object.defineProperty(punching(node), 'ease', { get: () => ease });

/** Two nodes that reach nobody but the relay; the connector has three that may be tried. Notes when the agent's punches go where. */
async function cell(own: NatEase, peer: NatEase) {
  const advertise = ['203.0.113.99:1001', '203.0.113.99:1002'];
  const it = await scene({
    agent: { direct: AUTO },
    connector: { direct: { ...AUTO, advertise }, nat: new SimNat(20, NAT_KINDS.moderate) },
  });
  // What the nodes find out by themselves would begin everything anew.
  it.world.run(Seconds(1));
  pretend(it.agent, own);
  pretend(it.connector, peer);
  const punches: { readonly at: Instant; readonly to: string }[] = [];
  const ip = (it.agent as SimNode).udp[0]!.external.ip;
  it.world.network.filter = ({ from, to, bytes }) => {
    if ([from, to].some((one) => one.ip.toString() === RELAY)) return true;
    if (from.ip.equals(ip) && bytes[0] === Frame.punch) punches.push({ at: it.world.now, to: to.ip.toString() });
    return false;
  };
  connected(it);
  const { direct } = it.agent.session('c1')!;
  const isOver = (): boolean => direct.failedRounds > 0 || punching(it.agent).counters.get('birthdays') > 0;
  expect(it.world.until(isOver, Seconds(30))).toBe(true);
  return { it, punches, direct, counters: punching(it.agent).counters };
}

describe.each(cells)('%s here and %s there', (own, peer) => {
  const plan = punchPlan(own, peer);

  it('rounds, spacing, addresses and guessing are the plan’s', async () => {
    const { it, punches, direct, counters } = await cell(own, peer);
    expect([counters.get('rounds'), counters.get('birthdays')]).toEqual([
      plan.rounds,
      plan.birthday === 'none' ? 0 : 1,
    ]);
    expect(punching(it.connector).counters.get('rounds')).toBe(plan.rounds);
    if (plan.rounds === 0) {
      expect([punches.length, direct.reason]).toEqual([0, 'udp_blocked']);
      return;
    }
    const sweep = punches.slice(0, plan.usesPublic ? 3 : 2);
    expect(new Set(sweep.slice(1).map(({ at }, i) => elapsed(sweep[i]!.at, at)))).toEqual(new Set([plan.spacing]));
    expect(punches.some(({ to }) => to === PUBLIC)).toBe(plan.usesPublic);
  });
});

test('what a node takes its NAT to be: what its own sockets have shown before what it was told', async () => {
  const it = await scene({
    agent: { direct: AUTO },
    connector: { direct: AUTO, nat: new SimNat(20, NAT_KINDS.strict) },
  });
  it.world.run(Seconds(1));
  const eases = (...told: NatEase[]): NatEase[] =>
    told.map((ease) => {
      punching(it.agent).setEase(it.world.now, ease);
      return punching(it.agent).ease;
    });
  expect(eases('unknown', 'open', 'port', 'strict', 'blocked')).toEqual(['port', 'open', 'port', 'strict', 'port']);
  punching(it.connector).setEase(it.world.now, 'open');
  expect(punching(it.connector).ease).toBe('strict');
});

test('a relay without its second port: nothing is known, until it is told; the peer hears of it', async () => {
  const it = await scene({ agent: { direct: AUTO }, connector: { direct: AUTO } });
  it.world.network.filter = ({ to }) => to.port !== PROBE_PORT;
  for (const node of [it.agent, it.connector]) punching(node).reflexive.isStrict = undefined;
  connected(it);
  it.world.run(Seconds(1));
  const { path } = it.agent.session('c1')!.direct;
  expect([punching(it.agent).ease, path.peerEase]).toEqual(['unknown', 'unknown']);
  punching(it.connector).setEase(it.world.now, 'open');
  it.connector.host.reactor.wake();
  expect(it.world.until(() => path.peerEase === 'open', Millis(200))).toBe(true);
});

test('a peer is told where it has itself seen us, and punches there again', async () => {
  const it = await scene({
    agent: { direct: AUTO, nat: new SimNat(10, NAT_KINDS.strict) },
    connector: { direct: AUTO },
  });
  connected(it);
  expect(it.world.until(() => bothUse(it, 'direct'), Seconds(3))).toBe(true);
  it.world.run(Millis(100));
  const session = it.connector.sessions[0]!;
  const { remote } = session.link!.connection;
  const pair = session.path.puncher.pairs.all.find(({ address }) => address.equals(remote));
  expect(remote.ip.toString()).toBe('203.0.113.10');
  const srflx = punching(it.agent).candidates.find(({ kind }) => kind === 'srflx')!;
  expect(srflx.address.equals(remote)).toBe(false);
  expect(pair?.kind).toBe('prflx');
  const told = session.path.puncher.pairs.all.filter(({ kind }) => kind === 'prflx');
  session.path.puncher.pairs.drop((one) => one === pair);
  it.agent.session('c1')!.direct.path.announce(it.world.now);
  it.agent.host.reactor.wake();
  it.world.run(Millis(100));
  expect(told.length).toBe(1);
  expect(session.path.puncher.pairs.all.find(({ address }) => address.equals(remote))?.kind).toBe('prflx');
});
