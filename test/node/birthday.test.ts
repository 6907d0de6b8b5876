/** Ports guessed between a NAT that gives every destination another port and one that lets in only whom it has sent to. */
import { describe, expect, it } from 'vitest';
import { Minutes, Seconds } from '../../src/base/time.js';
import { BIRTHDAY_GUESSES, BIRTHDAY_SOCKETS } from '../../src/tunnel/punch/birthday.js';
import { connected, type Scene, scene } from '../connector/fixtures.js';
import { NAT_KINDS, SimNat } from '../support/sim-nat.js';

type Kind = keyof typeof NAT_KINDS;
const direct = { path: 'auto' } as const;

/** Both ends learn by the relay's two ports what their NATs do. */
async function pair(ours: Kind, theirs: Kind): Promise<Scene> {
  const it = await scene({
    agent: { direct, nat: new SimNat(10, NAT_KINDS[ours]) },
    connector: { direct, nat: new SimNat(20, NAT_KINDS[theirs]) },
  });
  it.world.run(Seconds(1));
  expect([it.agent, it.connector].map(({ core }) => core.punching.reflexive.isStrict)).toEqual([
    ours === 'strict',
    theirs === 'strict',
  ]);
  return it;
}

const isDirect = ({ agent, connector }: Scene): boolean =>
  agent.session('c1')?.link?.isDirect === true && connector.sessions[0]?.link?.isDirect === true;
const openSockets = ({ agent, connector }: Scene): number =>
  [agent, connector].reduce(
    (sum, { host }) => sum + host.sockets.udpSockets.filter(({ isClosed }) => !isClosed).length,
    0,
  );

/** Nothing passes between the two NATs any more. */
function block({ world }: Scene): void {
  world.network.filter = ({ from, to }) => ![from, to].every(({ ip }) => ip.toString().startsWith('203.0.113.'));
}

describe.each([
  ['strict', 'moderate'],
  ['moderate', 'strict'],
] as const)('an agent behind %s, a connector behind %s', (ours, theirs) => {
  it('meet after a round in vain, on a socket that stays while the others are closed', async () => {
    const it = await pair(ours, theirs);
    const before = openSockets(it);
    const { app, stream } = connected(it);
    expect(it.world.until(() => isDirect(it), Seconds(15))).toBe(true);
    it.world.run(Seconds(20));
    expect(openSockets(it)).toBe(before + 1);
    const role = (strict: boolean) => (strict ? 'sockets' : 'ports');
    expect(it.agent.eventsOf('port-guessing')).toMatchObject([{ connector: 'c1', role: role(ours === 'strict') }]);
    expect(it.connector.eventsOf('port-guessing')).toMatchObject([{ agent: 'alice', role: role(theirs === 'strict') }]);
    const { link } = it.agent.session('c1')!;
    const packetsOut = link!.packetsOut;
    app.say(new Uint8Array(500_000));
    expect(it.world.until(() => stream.receivedBytes === 500_000, Seconds(10))).toBe(true);
    expect(link!.packetsOut - packetsOut).toBeGreaterThan(300);
    it.world.run(Minutes(3));
    expect(isDirect(it)).toBe(true);
    // The link ends, and its socket with it.
    block(it);
    app.say('x');
    it.world.run(Minutes(1));
    expect(isDirect(it)).toBe(false);
    expect(openSockets(it)).toBe(before);
  });
});

describe('without a chance', () => {
  it('between two strict ones nothing is guessed', async () => {
    const it = await pair('strict', 'strict');
    connected(it);
    it.world.run(Seconds(30));
    expect(it.agent.core.punching.counters.get('birthdays')).toBe(0);
    expect(isDirect(it)).toBe(false);
  });

  it('nothing is guessed where either end forbids it', async () => {
    const nat = (kind: Kind, inside: number) => ({ nat: new SimNat(inside, NAT_KINDS[kind]) });
    for (const [agent, connector] of [
      [false, true],
      [true, false],
    ] as const) {
      const it = await scene({
        agent: { direct: { ...direct, guesses: agent }, ...nat('moderate', 10) },
        connector: { direct: { ...direct, guesses: connector }, ...nat('strict', 20) },
      });
      it.world.run(Seconds(1));
      connected(it);
      it.world.run(Minutes(2));
      expect(isDirect(it)).toBe(false);
      expect(it.agent.eventsOf('port-guessing').length).toBe(agent ? 1 : 0);
      expect(it.connector.eventsOf('port-guessing')).toEqual([]);
    }
  });

  it('a peer that is not there gets a thousand packets, once in ten minutes', async () => {
    const it = await pair('moderate', 'strict');
    block(it);
    const before = openSockets(it);
    connected(it);
    it.world.run(Minutes(9));
    expect(it.agent.core.punching.counters.snapshot()).toMatchObject({ birthdays: 1 });
    expect(it.connector.core.punching.counters.snapshot()).toMatchObject({ birthdays: 1 });
    const { counters } = it.agent.core.punching;
    expect(counters.get('sent')).toBeGreaterThanOrEqual(BIRTHDAY_GUESSES);
    expect(counters.get('sent')).toBeLessThan(BIRTHDAY_GUESSES + 200);
    expect(it.connector.core.punching.counters.get('sent')).toBeGreaterThanOrEqual(BIRTHDAY_SOCKETS);
    expect(openSockets(it)).toBe(before);
  });
});
