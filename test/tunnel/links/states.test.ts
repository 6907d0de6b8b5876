import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Counters } from '../../../src/base/counters.js';
import { instantAt, later, Millis, Minutes, Seconds } from '../../../src/base/time.js';
import { LossAlarm } from '../../../src/tunnel/links/loss-alarm.js';
import { ManagedLink, Tier } from '../../../src/tunnel/links/managed-link.js';
import { LinkManager } from '../../../src/tunnel/links/manager.js';
import { LINK_COUNTERS, LINK_REASONS, LINK_STATES, mayEnter } from '../../../src/tunnel/links/states.js';

const NOW = instantAt(1_000_000_000);
const connection = { silentFor: () => Millis(0), sendDatagram: () => true, stats: () => undefined };

function link(): { readonly one: ManagedLink; readonly counters: Counters<(typeof LINK_COUNTERS)[number]> } {
  const counters = new Counters(LINK_COUNTERS);
  return { one: new ManagedLink(NOW, { tier: Tier.direct, isV6: false, number: 1, connection, counters }), counters };
}

test('every step there is, and no other', () => {
  const steps = LINK_STATES.flatMap((from) =>
    LINK_STATES.filter((to) => mayEnter(from, to)).map((to) => `${from} ${to}`),
  );
  expect(steps).toEqual([
    'proving handshaking',
    'proving dead',
    'handshaking standby',
    'handshaking dead',
    'standby active',
    'standby suspect',
    'standby dead',
    'active standby',
    'active suspect',
    'active dead',
    'suspect standby',
    'suspect active',
    'suspect dead',
  ]);
});

test('the documentation names every state and reason, and no other', () => {
  const text = readFileSync(new URL('../../../docs/protocol.md', import.meta.url), 'utf8');
  const section = text.slice(text.indexOf('## Staying on the best link'), text.indexOf('| DATAGRAM payload'));
  const named = section
    .split('\n')
    .flatMap((line) => [...(line.split('|')[1]?.matchAll(/`(\w+)`/g) ?? [])].map(([, word]) => word));
  expect(named.sort()).toEqual([...LINK_STATES, ...LINK_REASONS].sort());
});

test('a step is counted with its reason; one that does not exist changes nothing but a counter', () => {
  const { one, counters } = link();
  expect(one.enter(NOW, 'active', 'best_rank')).toBe(false);
  expect(one.state).toBe('proving');
  expect(counters.snapshot()).toEqual({ illegal_steps: 1 });
  expect(one.enter(NOW, 'handshaking', 'punched')).toBe(true);
  expect([one.state, one.reason]).toEqual(['handshaking', 'punched']);
  expect(counters.snapshot()).toEqual({ illegal_steps: 1, state_handshaking: 1, why_punched: 1 });
});

test('a link that fails is waited for 2, 4, 8 … 64 s; a minute of service is forgiveness', () => {
  const { one } = link();
  const waits: number[] = [];
  for (let i = 0; i < 7; i++) {
    one.failed(NOW, NOW, false);
    waits.push((one.returnAt - NOW) / 1e6);
  }
  expect(waits).toEqual([2, 4, 8, 16, 32, 64, 64]);
  one.failed(later(NOW, Minutes(1.1)), NOW, false);
  expect((one.returnAt - later(NOW, Minutes(1.1))) / 1e6).toBe(2);
});

test('two losses in a second ring, unless they are one in more than a hundred, or the path is full', () => {
  const alarm = (lost: number, sent: number, rtt = 20): boolean => {
    const one = new LossAlarm();
    const figures = { rtt: Millis(20), minRtt: Millis(20) };
    one.note(NOW, { ...figures, packetsSent: 50, packetsLost: 7 });
    one.note(later(NOW, Millis(500)), { ...figures, rtt: Millis(rtt), packetsSent: 50 + sent, packetsLost: 7 + lost });
    return one.isRinging(later(NOW, Millis(500)));
  };
  expect([alarm(1, 50), alarm(2, 50), alarm(2, 200), alarm(2, 201), alarm(3, 201)]).toEqual([
    false,
    true,
    true,
    false,
    true,
  ]);
  expect([alarm(5, 50, 59), alarm(5, 50, 61)]).toEqual([true, false]);
  const one = new LossAlarm();
  const figures = { rtt: Millis(20), minRtt: Millis(20) };
  one.note(NOW, { ...figures, packetsSent: 0, packetsLost: 0 });
  one.note(later(NOW, Millis(100)), { ...figures, packetsSent: 50, packetsLost: 5 });
  expect(one.isRinging(later(NOW, Millis(900)))).toBe(true);
  expect(one.isRinging(later(NOW, Millis(1200)))).toBe(false);
});

test('copies are bounded to 20 Mbit/s, and not at all once two heartbeats are missed', () => {
  const counters = new Counters(LINK_COUNTERS);
  const manager = new LinkManager({ decides: true, path: 'auto', counters, onActive: () => {}, onDead: () => {} });
  const silent = { ...connection, silentFor: () => Seconds(9) };
  for (const tier of [Tier.direct, Tier.relayUdp]) {
    const one = manager.add(NOW, { tier, isV6: false, number: tier, connection: silent });
    manager.live(NOW, one, Millis(20));
  }
  let copied = 0;
  for (let ms = 0; ms < 1000; ms++)
    for (let i = 0; i < 10; i++) if (manager.mayCopy(later(NOW, Millis(ms)), 1000)) copied += 1000;
  expect(copied).toBeGreaterThan(2_400_000);
  expect(copied).toBeLessThanOrEqual(2_750_000);
  expect(counters.get('copies_over_limit')).toBe(10_000 - copied / 1000);
  const then = later(NOW, Seconds(2));
  manager.traffic(then);
  manager.turn(then);
  manager.traffic(later(then, Millis(350)));
  manager.turn(later(then, Millis(350)));
  expect(manager.active!.state).toBe('suspect');
  for (let i = 0; i < 10_000; i++) expect(manager.mayCopy(later(then, Millis(350)), 1000)).toBe(true);
});
