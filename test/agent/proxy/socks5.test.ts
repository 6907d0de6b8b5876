import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProxyAccess } from '../../../src/agent/proxy/access.js';
import type { Failure } from '../../../src/agent/proxy/negotiation.js';
import { Socks5 } from '../../../src/agent/proxy/socks5.js';
import { IpAddress, SocketAddress } from '../../../src/base/address.js';

const OPEN = new ProxyAccess();
const GREETING = [5, 1, 0];
const ascii = (text: string): number[] => [...Buffer.from(text, 'latin1')];
const byName = (name: string, port: number): number[] => [
  5,
  1,
  0,
  3,
  name.length,
  ...ascii(name),
  port >> 8,
  port & 255,
];
const BOUND = new SocketAddress(IpAddress.parse('100.64.0.2')!, 0x1234);

/** Feeds `bytes` in pieces of the given sizes (then the rest) and gathers what comes back. */
function run(
  bytes: readonly number[],
  sizes: readonly number[] = [],
  access = OPEN,
): { socks: Socks5; replies: number[]; taken: number } {
  const socks = new Socks5(access);
  const input = Uint8Array.from(bytes);
  const replies: number[] = [];
  let at = 0;
  let taken = 0;
  for (const size of [...sizes, bytes.length]) {
    const length = Math.min(size, bytes.length - at);
    const n = socks.feed(input, at, length);
    if (socks.state === 'reading') expect(n).toBe(length);
    taken += n;
    replies.push(...socks.takeReply());
    at += length;
    if (socks.state !== 'reading') break;
  }
  return { socks, replies, taken };
}

describe('SOCKS 5', () => {
  it.each([
    ['a name', byName('db.acme.internal', 5432), 'db.acme.internal', 5432],
    ['the longest name', byName('x'.repeat(255), 1), 'x'.repeat(255), 1],
    ['an IPv4 address', [5, 1, 0, 1, 10, 100, 0, 1, 0x15, 0x38], '10.100.0.1', 5432],
    ['an IPv6 address', [5, 1, 0, 4, 0xfd, 0x12, ...Array<number>(13).fill(0), 7, 0xff, 0xff], 'fd12::7', 65535],
  ])('reads a CONNECT to %s and leaves the bytes after it', (_what, request, host, port) => {
    const { socks, replies, taken } = run([...GREETING, ...request, 1, 2, 3]);
    expect(socks.state).toBe('asked');
    expect(socks.target).toEqual({ host, port });
    expect(replies).toEqual([5, 0]);
    expect(taken).toBe(GREETING.length + request.length);
  });

  it.each([
    ['only passwords are offered', [5, 2, 1, 2], [5, 0xff]],
    ['no method is offered', [5, 0], [5, 0xff]],
    ['BIND', [...GREETING, 5, 2, 0, 1], [5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0]],
    ['a command beyond UDP ASSOCIATE', [...GREETING, 5, 4, 0, 1], [5, 0, 5, 7, 0, 1, 0, 0, 0, 0, 0, 0]],
    ['an unknown address type', [...GREETING, 5, 1, 0, 2], [5, 0, 5, 8, 0, 1, 0, 0, 0, 0, 0, 0]],
    ['an empty name', [...GREETING, ...byName('', 80)], [5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0]],
    ['a name with a line break', [...GREETING, ...byName('a\r\nb', 80)], [5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0]],
    ['a request of another version', [...GREETING, 4], [5, 0]],
    ['SOCKS 4', [4, 1, 0, 80], []],
    ['HTTP', ascii('GET / HTTP/1.1\r\n'), []],
  ])('fails on %s', (_what, bytes, answer) => {
    const { socks, replies } = run(bytes);
    expect(socks.state).toBe('failed');
    expect(socks.target).toBeUndefined();
    expect(replies).toEqual(answer);
  });

  it('reads a UDP ASSOCIATE with the address the client will send from', () => {
    const { socks, taken } = run([...GREETING, 5, 3, 0, 1, 127, 0, 0, 1, 0x30, 0x39, 7]);
    expect(socks.state).toBe('asked');
    expect(socks.target).toBeUndefined();
    expect(socks.association).toEqual({ host: '127.0.0.1', port: 12345 });
    expect(taken).toBe(13);
  });

  describe('with users', () => {
    const access = new ProxyAccess([], new Map([['ann', 'pässwörd']]));
    const login = (name: string, password: string): number[] => {
      const [n, p] = [Buffer.from(name), Buffer.from(password)];
      return [1, n.length, ...n, p.length, ...p];
    };
    const HELLO = [5, 2, 0, 2];

    it('asks for a password and takes the right one, in any pieces', () => {
      fc.assert(
        fc.property(fc.array(fc.nat(20)), (sizes) => {
          const { socks, replies } = run([...HELLO, ...login('ann', 'pässwörd'), ...byName('db', 1)], sizes, access);
          expect(socks.target).toEqual({ host: 'db', port: 1 });
          expect(replies).toEqual([5, 2, 1, 0]);
        }),
      );
    });

    it.each([
      ['a wrong password', login('ann', 'password'), [1, 1]],
      ['an unknown name', login('bob', 'pässwörd'), [1, 1]],
      ['nothing at all', login('', ''), [1, 1]],
      ['bytes that are not UTF-8', [1, 3, 97, 110, 110, 2, 0xff, 0xfe], [1, 1]],
      ['another version', [2], []],
      ['the request at once', byName('db', 1), []],
    ])('refuses %s', (_what, bytes, answer) => {
      const { socks, replies } = run([...HELLO, ...bytes], [], access);
      expect(socks.state).toBe('failed');
      expect(socks.target).toBeUndefined();
      expect(replies).toEqual([5, 2, ...answer]);
    });

    it('takes the longest name and password', () => {
      const long = new ProxyAccess([], new Map([['n'.repeat(255), 'p'.repeat(255)]]));
      const { replies } = run([...HELLO, ...login('n'.repeat(255), 'p'.repeat(255))], [], long);
      expect(replies).toEqual([5, 2, 1, 0]);
    });

    it('refuses a client that offers no password', () => {
      expect(run([...GREETING], [], access).replies).toEqual([5, 0xff]);
    });
  });

  it('takes "no authentication" among other methods', () => {
    expect(run([5, 3, 2, 1, 0]).replies).toEqual([5, 0]);
  });

  it('answers with the address the connection goes out from', () => {
    expect([...new Socks5(OPEN).accept(BOUND)]).toEqual([5, 0, 0, 1, 100, 64, 0, 2, 0x12, 0x34]);
    const v6 = new SocketAddress(IpAddress.parse('fd12::7')!, 80);
    expect([...new Socks5(OPEN).accept(v6)]).toEqual([5, 0, 0, 4, 0xfd, 0x12, ...Array<number>(13).fill(0), 7, 0, 80]);
  });

  it.each([
    ['failed', 1],
    ['not-allowed', 2],
    ['net-unreachable', 3],
    ['host-unreachable', 4],
    ['refused', 5],
    ['timeout', 6],
  ] as [Failure, number][])('answers %s with code %i', (failure, code) => {
    expect([...new Socks5(OPEN).refuse(failure)]).toEqual([5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
  });

  it('reads the same in any pieces', () => {
    const name = fc.string({ unit: fc.constantFrom(...'abcxyz019-.'), minLength: 1, maxLength: 255 });
    fc.assert(
      fc.property(
        name,
        fc.nat(65535),
        fc.array(fc.integer({ min: 0, max: 9 })),
        fc.nat(40),
        (host, port, sizes, more) => {
          const bytes = [...GREETING, ...byName(host, port), ...Array<number>(more).fill(5)];
          const { socks, replies, taken } = run(bytes, sizes);
          expect(socks.target).toEqual({ host, port });
          expect(replies).toEqual([5, 0]);
          expect(taken).toBeLessThanOrEqual(bytes.length - more);
        },
      ),
    );
  });

  it('never throws and never reads more than two messages, whatever comes', () => {
    const nearly = fc.array(fc.oneof(fc.constantFrom(0, 1, 3, 4, 5), fc.nat(255)), { maxLength: 700 });
    fc.assert(
      fc.property(nearly, fc.array(fc.nat(50)), fc.boolean(), (noise, sizes, greeted) => {
        const { socks, taken, replies } = run(greeted ? [...GREETING, ...noise] : noise, sizes);
        expect(taken).toBeLessThanOrEqual(257 + 262);
        expect(replies.length).toBeLessThanOrEqual(12);
        expect(socks.state === 'asked').toBe((socks.target ?? socks.association) !== undefined);
      }),
      { numRuns: 2000 },
    );
  });
});
