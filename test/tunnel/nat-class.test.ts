/** NAT classification: every kind of NAT by a model of RFC 4787, as probes of one relay or of two show it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SocketAddress } from '../../src/base/address.js';
import { classifyNat, type NatObservations, type ProbeOutcome } from '../../src/tunnel/nat-class.js';
import { natEase } from '../../src/tunnel/punch-plan.js';
import { at } from '../support/sim-nodes.js';

const LOCAL = at('192.168.1.2:40000');
const PUBLIC = '203.0.113.7';
type Key = 'none' | 'independent' | 'address' | 'port';

interface Model {
  readonly mapping: Key;
  readonly filtering: Exclude<Key, 'none'>;
  readonly movesPort?: boolean;
}

/** What a prober sees that asks both ports of each address, and first of all for an answer from the other port. */
function observe(model: Model, addresses: readonly string[], hairpin?: boolean): NatObservations {
  const ports = new Map<string, number>();
  const observed = (asked: SocketAddress): SocketAddress => {
    if (model.mapping === 'none') return LOCAL;
    const key = model.mapping === 'independent' ? '' : model.mapping === 'address' ? `${asked.ip}` : `${asked}`;
    if (!ports.has(key)) ports.set(key, (model.movesPort || ports.size > 0 ? 50_000 : LOCAL.port) + ports.size);
    return at(`${PUBLIC}:${ports.get(key)}`);
  };
  const outcomes = addresses.flatMap((address): ProbeOutcome[] => {
    const [first, second] = [at(`${address}:4433`), at(`${address}:4434`)];
    return [
      { asked: first, fromOtherPort: false, observed: observed(first) },
      {
        asked: first,
        fromOtherPort: true,
        observed: model.filtering === 'port' ? undefined : observed(first),
      },
      { asked: second, fromOtherPort: false, observed: observed(second) },
    ];
  });
  return { local: LOCAL, outcomes, hairpin };
}

describe('NAT classification', () => {
  it.each([
    ['none', 'independent', 'no NAT', 'none', 'open'],
    ['none', 'address', 'no NAT', 'none', 'open'],
    ['none', 'port', 'firewall', 'none', 'port'],
    ['independent', 'independent', 'full or restricted cone', 'endpoint-independent', 'open'],
    ['independent', 'address', 'full or restricted cone', 'endpoint-independent', 'open'],
    ['independent', 'port', 'port-restricted cone', 'endpoint-independent', 'port'],
    ['port', 'address', 'symmetric', 'port-dependent', 'strict'],
    ['port', 'port', 'symmetric', 'port-dependent', 'strict'],
  ] as const)('mapping %s, filtering %s is: %s', (mapping, filtering, name, expected, ease) => {
    for (const addresses of [['198.51.100.1'], ['198.51.100.1', '198.51.100.2']]) {
      const nat = classifyNat(observe({ mapping, filtering }, addresses));
      expect(nat).toMatchObject({ name, mapping: expected });
      expect(natEase(nat)).toBe(ease);
      expect(nat.mappingIsSure).toBe(mapping !== 'independent' || addresses.length === 2);
    }
  });

  it('tells a mapping by address only with two relay addresses, and says of one that it is not sure', () => {
    const model = { mapping: 'address', filtering: 'port' } as const;
    expect(classifyNat(observe(model, ['198.51.100.1']))).toMatchObject({
      mapping: 'endpoint-independent',
      mappingIsSure: false,
    });
    expect(classifyNat(observe(model, ['198.51.100.1', '198.51.100.2']))).toMatchObject({
      mapping: 'address-dependent',
      mappingIsSure: true,
      name: 'symmetric',
    });
  });

  it('says whether the port is kept', () => {
    const model = { mapping: 'independent', filtering: 'port' } as const;
    expect(classifyNat(observe(model, ['198.51.100.1'])).preservesPort).toBe(true);
    expect(classifyNat(observe({ ...model, movesPort: true }, ['198.51.100.1'])).preservesPort).toBe(false);
    expect(classifyNat(observe({ ...model, mapping: 'none' }, ['198.51.100.1'])).preservesPort).toBeUndefined();
  });

  it.each([true, false, undefined])('hands on that hairpin is %s', (hairpin) => {
    const observations = observe({ mapping: 'independent', filtering: 'port' }, ['198.51.100.1'], hairpin);
    expect(classifyNat(observations).hairpin).toBe(hairpin);
  });

  it('knows nothing without an answer, and calls UDP blocked only after having asked', () => {
    const { outcomes } = observe({ mapping: 'port', filtering: 'port' }, ['198.51.100.1']);
    const silent = outcomes.map((one) => ({ ...one, observed: undefined }));
    const blocked = classifyNat({ local: LOCAL, outcomes: silent, hairpin: undefined });
    expect(blocked).toMatchObject({ name: 'UDP blocked', mapping: 'unknown', publicAddress: undefined });
    expect(natEase(blocked)).toBe('blocked');
    const nothing = classifyNat({ local: LOCAL, outcomes: [], hairpin: undefined });
    expect(nothing.name).toBe('unknown');
    expect(natEase(nothing)).toBe('unknown');
    expect(natEase(undefined)).toBe('unknown');
  });

  it('does not know the mapping of a relay without a second port', () => {
    const [first] = observe({ mapping: 'independent', filtering: 'port' }, ['198.51.100.1']).outcomes;
    const nat = classifyNat({ local: LOCAL, outcomes: [first!], hairpin: undefined });
    expect(nat).toMatchObject({ mapping: 'unknown', filtering: 'unknown', name: 'unknown' });
    expect(nat.publicAddress?.toString()).toBe(`${PUBLIC}:40000`);
  });

  it('takes a relay address that does not answer for nothing', () => {
    const model = { mapping: 'independent', filtering: 'address' } as const;
    const observations = observe(model, ['198.51.100.1', '198.51.100.2']);
    const outcomes = observations.outcomes.map((one) =>
      `${one.asked.ip}` === '198.51.100.2' ? { ...one, observed: undefined } : one,
    );
    expect(classifyNat({ ...observations, outcomes })).toEqual(classifyNat(observe(model, ['198.51.100.1'])));
  });

  it('gives one answer whatever the order of the outcomes, and never one of lost answers that contradicts', () => {
    const model = fc.record({
      mapping: fc.constantFrom('none', 'independent', 'address', 'port'),
      filtering: fc.constantFrom('independent', 'address', 'port'),
    }) as fc.Arbitrary<Model>;
    fc.assert(
      fc.property(model, fc.integer(), fc.uint8Array({ minLength: 6, maxLength: 6 }), (nat, seed, losses) => {
        const whole = observe(nat, ['198.51.100.1', '198.51.100.2']);
        const lost = whole.outcomes.map((one, index) =>
          // What filters nothing may lose packets too.
          losses[index]! < 60 ? { ...one, observed: undefined } : one,
        );
        const shuffled = [...lost].sort((a, b) => ((seed ^ a.asked.port) & 7) - ((seed ^ b.asked.port) & 3));
        const one = classifyNat({ ...whole, outcomes: lost });
        const other = classifyNat({ ...whole, outcomes: shuffled });
        expect({ ...other, publicAddress: undefined, preservesPort: undefined }).toEqual({
          ...one,
          publicAddress: undefined,
          preservesPort: undefined,
        });
        if (one.mappingIsSure && nat.mapping !== 'address') {
          const truth = { none: 'none', independent: 'endpoint-independent', port: 'port-dependent' }[nat.mapping];
          if (!(nat.mapping === 'port' && one.mapping === 'address-dependent')) expect(one.mapping).toBe(truth);
        }
      }),
    );
  });
});
