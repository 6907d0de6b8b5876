import { networkInterfaces } from 'node:os';
import { expect, test } from 'vitest';
import { parseRoutes4, parseRoutes6, readHostNetwork } from '../../../src/os/linux/host-network.js';

const texts = (routes: { prefix: { toString(): string }; device: string }[]): string[] =>
  routes.map(({ prefix, device }) => `${prefix} ${device}`);

test('IPv4 routes as the kernel prints them; what is down or rejects is none', () => {
  const text = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
tun0\t0000640A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
*\t0000000A\t00000000\t0200\t0\t0\t0\t000000FF\t0\t0\t0
eth1\t0002A8C0\t00000000\t0000\t0\t0\t0\t00FFFFFF\t0\t0\t0
`;
  expect(texts(parseRoutes4(text))).toEqual(['0.0.0.0/0 eth0', '192.168.1.0/24 eth0', '10.100.0.0/16 tun0']);
});

test('IPv6 routes as the kernel prints them; loopback’s are none', () => {
  const zeros = '0'.repeat(32);
  const text = `20010db8000100000000000000000000 40 ${zeros} 00 ${zeros} 00000100 00000001 00000000 00000001     eth0
${zeros} 00 ${zeros} 00 20010db8000100000000000000000001 00000400 00000002 00000000 00000003     eth0
${zeros} 00 ${zeros} 00 ${zeros} ffffffff 00000001 00000000 00200200       lo
00000000000000000000000000000001 80 ${zeros} 00 ${zeros} 00000000 00000004 00000000 80200001       lo
`;
  expect(texts(parseRoutes6(text))).toEqual(['2001:db8:1::/64 eth0', '::/0 eth0']);
});

test('nonsense is no route', () => {
  expect([parseRoutes4(''), parseRoutes4('a\nb\tc'), parseRoutes6(''), parseRoutes6('x y z')]).toEqual([
    [],
    [],
    [],
    [],
  ]);
});

test('this host: no loopback, no link-local address, and every address is one of an interface', () => {
  const { addresses, routes } = readHostNetwork();
  const all = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  for (const address of addresses) {
    expect(all.find((one) => one.address === address)).toMatchObject({ internal: false });
    expect(address.startsWith('fe80:')).toBe(false);
  }
  for (const { prefix } of routes) expect(prefix).toMatch(/^[0-9a-f:.]+\/\d+$/);
});
