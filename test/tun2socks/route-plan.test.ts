/** Which prefixes go into the tunnel: exactly what is wanted, in few prefixes, none of them whole families. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IpAddress, Prefix } from '../../src/base/address.js';
import { planRoutes } from '../../src/tun2socks/route-plan.js';

const parse = (texts: readonly string[]): Prefix[] => texts.map((text) => Prefix.parse(text)!);
const plan = (include: string[], exclude: string[] = [], upstream: string[] = []): string[] =>
  planRoutes({
    include: parse(include),
    exclude: parse(exclude),
    upstream: upstream.map((text) => IpAddress.parse(text)!),
  }).map(String);

test('everything: halves that win over the default route, without multicast, broadcast and link-local', () => {
  const planned = planRoutes({ include: [], exclude: [], upstream: [] });
  const goesIn = (text: string): boolean => planned.some((prefix) => prefix.contains(IpAddress.parse(text)!));
  for (const inside of ['1.1.1.1', '10.0.0.1', '192.168.1.1', '203.0.113.1', '2606:4700::1', 'fd00::1', '64:ff9b::1']) {
    expect(goesIn(inside), inside).toBe(true);
  }
  for (const outside of ['224.0.0.251', '239.1.1.1', '255.255.255.255', 'ff02::fb', 'fe80::1', '::1']) {
    expect(goesIn(outside), outside).toBe(false);
  }
  expect(planned.every((prefix) => prefix.length > 0)).toBe(true);
});

test('what is excluded, and where the proxy is, stays outside', () => {
  expect(plan(['10.0.0.0/8'], ['10.128.0.0/9'])).toEqual(['10.0.0.0/9']);
  expect(plan(['10.0.0.0/30'], [], ['10.0.0.2'])).toEqual(['10.0.0.0/31', '10.0.0.3/32']);
  expect(plan(['10.0.0.0/8'], ['0.0.0.0/0'])).toEqual([]);
  expect(plan(['0.0.0.0/0', '::/0'])).toEqual(['0.0.0.0/1', '128.0.0.0/1', '::/1', '8000::/1']);
  expect(plan(['10.0.0.0/8', '10.1.0.0/16', '10.0.0.0/8'])).toEqual(['10.0.0.0/8']);
});

const prefix = fc
  .tuple(fc.boolean(), fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer({ min: 0, max: 32 }))
  .map(([v4, word, length]) =>
    v4 ? Prefix.of(IpAddress.v4(word), length)! : Prefix.of(new IpAddress(word, 0, 0, 0), length)!,
  );

test('for any prefixes: an address goes in if and only if it is included and not excluded; no two overlap', () => {
  fc.assert(
    fc.property(
      fc.array(prefix, { minLength: 1, maxLength: 5 }),
      fc.array(prefix, { maxLength: 5 }),
      (include, exclude) => {
        const planned = planRoutes({ include, exclude, upstream: [] });
        for (const { ip } of [...include, ...exclude, ...planned]) {
          const wanted = include.some((one) => one.contains(ip)) && !exclude.some((one) => one.contains(ip));
          expect(planned.some((one) => one.contains(ip))).toBe(wanted);
        }
        planned.forEach((one, i) => {
          expect(planned.some((other, k) => k !== i && other.overlaps(one))).toBe(false);
        });
      },
    ),
  );
});
