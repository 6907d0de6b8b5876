import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createCrypto } from '../../../src/os/crypto.js';
import { PathHistory, type SeenTrace } from '../../../src/trace/paths/history.js';
import { mayBeSame, merged, pathId } from '../../../src/trace/paths/path-id.js';

const crypto = createCrypto();
const seen = (hops: string, more: Partial<SeenTrace> = {}): SeenTrace => ({
  at: '2026-01-01T00:00:00.000Z',
  target: '198.51.100.2',
  protocol: 'quic',
  reached: true,
  hops: hops.split(' ').map((hop) => (hop === '*' ? '' : hop)),
  rtt: 1,
  loss: 0,
  ...more,
});

/** What a row of traces of one path is told to be: the letter of its id, and `!` where it changed. */
function told(...traces: SeenTrace[]): string[] {
  const history = new PathHistory(crypto);
  const ids: string[] = [];
  return traces.map((one) => {
    const { path_id, changed } = history.add('relay', one);
    if (!ids.includes(path_id)) ids.push(path_id);
    return `${'abc'[ids.indexOf(path_id)]}${changed ? '!' : ''}`;
  });
}

describe('the id of a path', () => {
  it('is the hash of its hops', () => {
    // printf '192.0.2.1|*|198.51.100.2' | sha256sum | cut -c1-16
    expect(pathId(['192.0.2.1', '', '198.51.100.2'], crypto)).toBe('f99f29791b7da27a');
    expect(pathId([], crypto)).toBe('e3b0c44298fc1c14');
  });

  it('stays while nothing says that packets go another way', () => {
    expect(told(seen('a b c'), seen('a b c'))).toEqual(['a', 'a']);
    expect(told(seen('a * c'), seen('a b c'), seen('* b c'), seen('a B c'))).toEqual(['a', 'a', 'a', 'b!']);
    expect(told(seen('a b c'), seen('a c'))).toEqual(['a', 'b!']);
    expect(told(seen('a b c'), seen('a b x c'))).toEqual(['a', 'b!']);
    expect(told(seen('a b c'), seen('a x c'), seen('a b c'))).toEqual(['a', 'b!', 'a!']);
  });

  it('stays when the destination stops answering, which is a change, and so is that it answers again', () => {
    const dead = seen('a b', { reached: false });
    expect(told(seen('a b c'), dead, dead, seen('a b c'))).toEqual(['a', 'a!', 'a', 'a!']);
    expect(told(seen('a b c'), seen('a b x y', { reached: false }))).toEqual(['a', 'b!']);
  });

  it('is no news by itself when another protocol was used', () => {
    expect(told(seen('a b c'), seen('a x c', { protocol: 'icmp' }), seen('a x c', { protocol: 'icmp' }))).toEqual([
      'a',
      'b',
      'b',
    ]);
  });

  it('does not depend on which of two traces came first, and both together are still the same', () => {
    const hops = fc.array(fc.constantFrom('', 'a', 'b'), { minLength: 1, maxLength: 5 });
    const path = fc.record({ hops, reached: fc.boolean() }).map((one) => ({
      ...one,
      hops: one.reached && one.hops.at(-1) === '' ? [...one.hops.slice(0, -1), 'z'] : one.hops,
    }));
    fc.assert(
      fc.property(path, path, (one, other) => {
        expect(mayBeSame(one, one)).toBe(true);
        expect(mayBeSame(one, other)).toBe(mayBeSame(other, one));
        if (!mayBeSame(one, other)) return;
        const both = merged(one, other);
        expect(mayBeSame(one, both) && mayBeSame(both, other)).toBe(true);
      }),
    );
  });
});

describe('the history', () => {
  it('keeps a hundred traces of a path, and sixty-four paths', () => {
    const history = new PathHistory(crypto);
    for (let i = 0; i < 103; i++) history.add('relay', seen('a b', { at: String(i) }));
    expect(history.of('relay').map(({ at }) => Number(at))).toEqual(Array.from({ length: 100 }, (_, i) => i + 3));
    for (let i = 0; i < 63; i++) history.add(`agent ${i}`, seen('a'));
    expect(history.paths).toHaveLength(64);
    // The one longest not traced goes.
    history.add('relay', seen('a b'));
    history.add('agent new', seen('a'));
    expect(history.paths).toHaveLength(64);
    expect(history.of('agent 0')).toEqual([]);
    expect(history.of('relay')).toHaveLength(100);
    expect(history.paths.slice(-2)).toEqual(['relay', 'agent new']);
  });
});
