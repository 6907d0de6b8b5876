/** Which pairs of NATs get a direct link: at once those that can without guessing ports, by guessing one more pair, and no others. */
import { describe, expect, it } from 'vitest';
import { Minutes, Seconds } from '../../src/base/time.js';
import { connected, type Scene, scene } from '../connector/fixtures.js';
import { NAT_KINDS, SimNat } from '../support/sim-nat.js';

type Kind = keyof typeof NAT_KINDS | 'none';
const KINDS: readonly Kind[] = ['none', 'open', 'restricted', 'moderate', 'strict'];
/** A mapping that depends on the peer's port cannot be told to a peer that filters by port: one of the ports has to be guessed. */
const GUESSED: ReadonlySet<string> = new Set(['strict moderate', 'moderate strict']);
const HARD: ReadonlySet<string> = new Set(['strict strict']);
const nat = (kind: Kind, number: number) => (kind === 'none' ? {} : { nat: new SimNat(number, NAT_KINDS[kind]) });
const direct = { path: 'auto' } as const;

const isDirect = ({ agent, connector }: Scene): boolean =>
  agent.session('c1')?.link?.isDirect === true && connector.sessions[0]?.link?.isDirect === true;

describe.each(KINDS)('an agent behind a NAT of kind %s', (ours) => {
  it.each(KINDS)('and a connector behind one of kind %s', async (theirs) => {
    const it = await scene({ agent: { direct, ...nat(ours, 10) }, connector: { direct, ...nat(theirs, 20) } });
    connected(it);
    const isPossible = !HARD.has(`${ours} ${theirs}`);
    expect(it.world.until(() => isDirect(it), Seconds(isPossible && !GUESSED.has(`${ours} ${theirs}`) ? 2 : 10))).toBe(
      isPossible,
    );
    if (isPossible) return;
    const { direct: side } = it.agent.session('c1')!;
    expect(side.reason).toMatch(/^direct_unproved: (no answer to [1-9]\d* punches|both NATs are strict)$/);
    // Once both ends know, nobody is asked any more.
    expect(it.world.until(() => side.reason === 'direct_unproved: both NATs are strict', Minutes(5))).toBe(true);
    expect(it.agent.session('c1')!.link!.isDirect).toBe(false);
  });
});

it('two nodes behind one NAT meet inside, also where it does not send back what comes from inside', async () => {
  const shared = new SimNat(10, NAT_KINDS.strict);
  const it = await scene({ agent: { direct, nat: shared }, connector: { direct, nat: shared } });
  connected(it);
  expect(it.world.until(() => isDirect(it), Seconds(2))).toBe(true);
  expect(it.agent.session('c1')!.link!.connection.remote.ip.toString()).toMatch(/^192\.168\.10\./);
});

/** A host in a private network that is routed, without translation, to others: behind the default route. */
class Routed extends SimNat {
  readonly #address: string;

  constructor(number: number, address: string) {
    super(number);
    this.#address = address;
  }
  override nextInside(): string {
    return this.#address;
  }
  override isInside(): boolean {
    return true;
  }
}

it.each([
  [[], false],
  [['10.20.0.0/16'], true],
  [['10.21.0.0/16'], false],
] as const)('private networks behind the default route, with --peer-prefix %j: direct %j', async (allow, expected) => {
  const it = await scene({
    agent: { direct: { ...direct, allow }, nat: new Routed(10, '10.30.0.2') },
    connector: { direct, nat: new Routed(20, '10.20.0.2') },
  });
  connected(it);
  expect(it.world.until(() => isDirect(it), Seconds(10))).toBe(expected);
  const refused = it.agent.core.punching.refusals.get('private');
  expect(refused > 0).toBe(!expected);
  if (expected) expect(it.agent.session('c1')!.link!.connection.remote.ip.toString()).toBe('10.20.0.2');
});
