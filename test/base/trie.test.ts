import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IpAddress, Prefix } from '../../src/base/address.js';
import { PrefixTrie } from '../../src/base/trie.js';

/** Few distinct bits, so that prefixes nest and share branches. */
const v4 = fc
  .tuple(
    fc.constantFrom(0x0a000000, 0x0a80ff00, 0xc0a80101, 0xffffffff, 0),
    fc.integer({ min: 0, max: 31 }),
    fc.boolean(),
  )
  .map(([base, bit, flip]) => IpAddress.v4(flip ? (base ^ (1 << bit)) >>> 0 : base));
const v6 = fc
  .tuple(fc.constantFrom(0x20010db8, 0, 0xfd000000), fc.integer({ min: 0, max: 127 }), fc.boolean())
  .map(([w0, bit, flip]) => {
    const words = [w0, 0, 1, 0xdeadbeef];
    if (flip) words[bit >> 5] = (words[bit >> 5]! ^ (1 << (bit & 31))) >>> 0;
    return new IpAddress(words[0]!, words[1]!, words[2]!, words[3]!);
  })
  .filter((ip) => !ip.isV4);
const address = fc.oneof(v4, v6);
const prefix = fc
  .tuple(address, fc.integer({ min: 0, max: 128 }))
  .map(([ip, length]) => Prefix.of(ip, ip.isV4 ? length % 33 : length)!)
  .filter((p) => p.ip.isV4 === p.toString().includes('.'));

describe('PrefixTrie', () => {
  it('agrees with a search through a list, through inserts and removals', () => {
    const step = fc.record({ prefix, act: fc.constantFrom('set', 'set', 'delete') });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.array(address, { maxLength: 20 }), (steps, probes) => {
        const trie = new PrefixTrie<{ readonly n: number }>();
        const model = new Map<string, { prefix: Prefix; value: { readonly n: number } }>();
        steps.forEach((s, n) => {
          const key = s.prefix.toString();
          const before = model.get(key)?.value;
          if (s.act === 'set') {
            const value = { n };
            expect(trie.set(s.prefix, value)).toBe(before);
            model.set(key, { prefix: s.prefix, value });
          } else {
            expect(trie.delete(s.prefix)).toBe(before);
            model.delete(key);
          }
          expect(trie.size).toBe(model.size);
          expect(trie.get(s.prefix)).toBe(model.get(key)?.value);
        });
        for (const ip of [...probes, ...steps.map((s) => s.prefix.ip)]) {
          let best: { prefix: Prefix; value: { readonly n: number } } | undefined;
          for (const entry of model.values()) {
            if (entry.prefix.contains(ip) && (best === undefined || entry.prefix.length > best.prefix.length))
              best = entry;
          }
          expect(trie.lookup(ip)).toBe(best?.value);
          if (ip.isV4) expect(trie.lookupV4(ip.w3)).toBe(best?.value);
        }
        const listed = trie.entries().map(([p]) => p.toString());
        expect(listed.sort()).toEqual([...model.keys()].sort());
      }),
      { numRuns: 400 },
    );
  });

  it('default routes of the two families do not mix', () => {
    const trie = new PrefixTrie<string>();
    trie.set(Prefix.parse('::/0')!, 'six');
    expect(trie.lookup(IpAddress.parse('10.0.0.1')!)).toBeUndefined();
    trie.set(Prefix.parse('0.0.0.0/0')!, 'four');
    expect(trie.lookup(IpAddress.parse('10.0.0.1')!)).toBe('four');
    expect(trie.lookup(IpAddress.parse('::1')!)).toBe('six');
    trie.clear();
    expect([trie.size, trie.entries()]).toEqual([0, []]);
  });
});
