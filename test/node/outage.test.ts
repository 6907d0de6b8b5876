/**
 * Outages in virtual time: packets keep being offered while nothing passes; the moment it passes again they do, whoever was
 * cut off and for however long. Sleep: the clocks have moved, the flows go on.
 */
import { describe, expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { type Duration, elapsed, later, Millis, Minutes, Seconds, toMillis } from '../../src/base/time.js';
import { connected, type Scene, scene } from '../connector/fixtures.js';
import { udpPacket } from '../support/packets.js';

const BACKEND = '10.0.0.5:5353';
const DNS = '10.100.0.2';
/** Whoever is cut off: everybody by the relay's, or one side only. */
const CUT = ['relay', 'agent', 'connector'] as const;
const LIMIT_MS = 500;
const EVERY = Millis(20);

interface Flowing {
  readonly it: Scene;
  /** Datagrams that came back to the user. */
  readonly answered: () => number;
  /** Sends one datagram in every `EVERY` for so long. */
  offer(span: Duration): void;
}

async function flowing(): Promise<Flowing> {
  const it = await scene({ agent: { tun: true } });
  const backend = it.connector.host.sockets.udpBackend(BACKEND);
  backend.onDatagram = (flow, bytes) => flow.reply(bytes);
  const from = it.agent.credentials.identity.overlay4!.toString();
  const offer = (span: Duration): void => {
    for (const end = later(it.world.now, span); it.world.now < end; it.world.run(EVERY)) {
      it.agent.tun!.send(udpPacket({ from, to: DNS }, 4000, 53, 'x'.repeat(500)));
    }
  };
  offer(Seconds(1));
  const answered = (): number => it.agent.tun!.delivered.length;
  expect(answered()).toBeGreaterThan(40);
  return { it, answered, offer };
}

describe.each([3, 10, 60, 300])('an outage of %i s', (seconds) => {
  test.each(CUT)('%s cut off', async (who) => {
    const { it, answered, offer } = await flowing();
    const { path } = (who === 'relay' ? it.world.relay : it[who]).host;
    path.isDown = true;
    offer(Seconds(seconds));
    path.isDown = false;
    const since = it.world.now;
    const before = answered();
    while (answered() === before && elapsed(since, it.world.now) < Seconds(60)) offer(EVERY);
    const ms = toMillis(elapsed(since, it.world.now));
    expect(ms).toBeLessThan(LIMIT_MS);
    expect(it.connector.eventsOf('session-opened').length).toBe(1);
  });
});

describe('sleep', () => {
  test.each([
    ['agent', 5],
    ['connector', 5],
    ['agent', 25],
  ] as const)('%s, stopped for %i minutes: the flow goes on', async (who, minutes) => {
    const it = await scene();
    const { app, stream } = connected(it);
    const { host } = it[who];
    stream.say('before ');
    expect(it.world.until(() => app.text() === 'before ')).toBe(true);
    host.isRunning = false;
    it.world.run(Minutes(minutes / 2));
    if (who === 'agent') stream.say('meanwhile ');
    it.world.run(Minutes(minutes / 2));
    host.isRunning = true;
    host.reactor.wake();
    const since = it.world.now;
    const expected = who === 'agent' ? 'before meanwhile ' : 'before ';
    expect(it.world.until(() => app.text() === expected && it.agent.session('c1')!.isLive, Seconds(20))).toBe(true);
    expect(toMillis(elapsed(since, it.world.now))).toBeLessThan(3000);
    stream.say('after');
    app.say('after');
    expect(it.world.until(() => app.text() === `${expected}after` && stream.text() === 'after')).toBe(true);
    expect(it.connector.eventsOf('session-opened').length).toBe(1);
  });

  test('a machine whose wall clock has jumped asks at once, from wherever it is now', async () => {
    const it = await scene();
    const { app, stream } = connected(it);
    // Between two keep-alives.
    it.world.run(Seconds(33));
    const [socket] = it.agent.udp;
    socket!.rebind(new SocketAddress(socket!.external.ip, 50_000));
    it.world.clock.ahead = Minutes(5);
    // Woken by nothing but its own clock's second.
    it.agent.host.reactor.wake();
    it.world.run(Millis(1));
    it.world.run(Seconds(1));
    stream.say('still there?');
    expect(it.world.until(() => app.text() === 'still there?', Millis(500))).toBe(true);
  });
});
