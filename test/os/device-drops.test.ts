/** What the kernel dropped in front of a device. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { deviceDrops, parseDeviceDrops } from '../../src/os/linux/device-drops.js';

const TABLE = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  100       1    0    9    0     0          0         0      100       1    0    8    0     0       0          0
  tun0: 2000      20    0    0    0     0          0         0     3000      30    0   17    0     0       0          0
veth1@2:0 0 0 0 0 0 0 0 0 0 0 4 0 0 0 0
`;

test('reads the column of its device', () => {
  expect(['lo', 'tun0', 'veth1@2', 'tun', 'tun1', ''].map((name) => parseDeviceDrops(TABLE, name))).toEqual([
    8, 17, 4, 0, 0, 0,
  ]);
  expect(parseDeviceDrops('tun0: 1 2', 'tun0')).toBe(0);
  expect(deviceDrops('lo')).toBeGreaterThanOrEqual(0);
});

test('is a count whatever the text', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (text, name) => {
      expect(Number.isSafeInteger(parseDeviceDrops(`${name}:${text}\n${text}`, name))).toBe(true);
    }),
  );
});
