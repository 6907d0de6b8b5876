/** Which of two links is the better one: the order of what counts, and how much it takes for a switch. */
import { describe, expect, test } from 'vitest';
import { Counters } from '../../../src/base/counters.js';
import { instantAt, Millis } from '../../../src/base/time.js';
import { ManagedLink, Tier } from '../../../src/tunnel/links/managed-link.js';
import { preferred, whyBetter } from '../../../src/tunnel/links/rank.js';
import { LINK_COUNTERS } from '../../../src/tunnel/links/states.js';

const NOW = instantAt(1_000_000_000);
const connection = { silentFor: () => Millis(0), sendDatagram: () => true, stats: () => undefined };

interface Traits {
  readonly tier?: Tier;
  readonly isV6?: boolean;
  readonly number?: number;
  readonly isDrained?: boolean;
  /** Round trip and its deviation in milliseconds, and how often it was measured. */
  readonly rtt?: number;
  readonly jitter?: number;
  readonly samples?: number;
  /** Of the last sixteen heartbeats. */
  readonly lost?: number;
}

function link(traits: Traits = {}): ManagedLink {
  const { tier = Tier.direct, isV6 = false, number = 0 } = traits;
  const made = new ManagedLink(NOW, { tier, isV6, number, connection, counters: new Counters(LINK_COUNTERS) });
  made.isDrained = traits.isDrained ?? false;
  made.health.srtt = Millis(traits.rtt ?? 20);
  made.health.rttvar = Millis(traits.jitter ?? 0);
  made.health.samples = traits.samples ?? 4;
  made.health.up.push(traits.lost ?? 0, 16 - (traits.lost ?? 0));
  return made;
}

describe('what is worth a switch', () => {
  test.each<[string, Traits, Traits, string | undefined]>([
    ['a better tier, however slow', { rtt: 500, samples: 0 }, { tier: Tier.relayUdp, rtt: 1 }, 'best_rank'],
    ['UDP rather than TCP', { tier: Tier.relayUdp }, { tier: Tier.relayTcp }, 'best_rank'],
    ['no worse tier, however quick', { tier: Tier.relayUdp, rtt: 1 }, { rtt: 500 }, undefined],
    ['any tier that stays rather than one that goes', { tier: Tier.relayTcp }, { isDrained: true }, 'drained'],
    ['nothing that goes', { isDrained: true, rtt: 1 }, { tier: Tier.relayTcp, rtt: 500 }, undefined],
    ['a round trip shorter by more than 5 ms', { rtt: 14 }, { rtt: 20 }, 'lower_rtt'],
    ['not by 5 ms', { rtt: 15 }, { rtt: 20 }, undefined],
    ['not a longer one', { rtt: 30 }, { rtt: 20 }, undefined],
    ['not within the jitter of both', { rtt: 10, jitter: 4 }, { rtt: 20, jitter: 2 }, undefined],
    ['beyond the jitter of both', { rtt: 8, jitter: 4 }, { rtt: 20, jitter: 2 }, 'lower_rtt'],
    ['nothing that was measured three times', { rtt: 1, samples: 3 }, { rtt: 200 }, undefined],
    ['not compared with what was measured three times', { rtt: 1 }, { rtt: 200, samples: 3 }, undefined],
    ['two heartbeats in sixteen fewer lost', { lost: 0 }, { lost: 2 }, 'less_loss'],
    ['not one', { lost: 0 }, { lost: 1 }, undefined],
    ['not more of them, though it is IPv6', { lost: 2, isV6: true }, { lost: 0 }, undefined],
    ['IPv6, all else being equal', { isV6: true }, {}, 'best_rank'],
    ['not IPv4', {}, { isV6: true }, undefined],
    ['not IPv6 that is slower by 5 ms', { isV6: true, rtt: 25 }, { rtt: 20 }, undefined],
  ])('%s', (_, candidate, current, why) => {
    expect(whyBetter(NOW, link(candidate), link(current))).toBe(why);
  });
});

test.each<[string, Traits, Traits]>([
  ['one that stays', { tier: Tier.relayTcp, rtt: 500 }, { isDrained: true }],
  ['the better tier', { rtt: 500 }, { tier: Tier.relayUdp, rtt: 1 }],
  ['the quicker one, however seldom measured', { rtt: 10, samples: 0, lost: 5 }, { rtt: 20, isV6: true }],
  ['the one that loses less, round trips being alike', { rtt: 24, lost: 1 }, { rtt: 20, lost: 2, isV6: true }],
  ['IPv6', { isV6: true, number: 2 }, { number: 1 }],
  ['the older one', { number: 1 }, { number: 2 }],
])('when none is in use, %s is taken', (_, better, worse) => {
  const [a, b] = [link(better), link(worse)];
  expect([preferred(NOW, a, b), preferred(NOW, b, a)]).toEqual([a, a]);
});
