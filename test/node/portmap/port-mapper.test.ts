/** The keeper of a port mapping: renewals, losses, other gateways, the end. Time is the test's, the gateway a plain object. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { IpAddress } from '../../../src/base/address.js';
import type { Log } from '../../../src/base/log.js';
import { type Gateway, giveUpAsking } from '../../../src/node/portmap/gateway-socket.js';
import type { Lease, MappingMethod } from '../../../src/node/portmap/methods.js';
import { PortMapper } from '../../../src/node/portmap/port-mapper.js';
import { SystemEntropy } from '../../../src/os/entropy.js';
import { at } from '../../support/sim-nodes.js';

const ip = (text: string): IpAddress => at(`${text}:1`).ip;
const HOUR = 3600;

class FakeGateway implements MappingMethod {
  readonly protocol = 'pcp';
  readonly publicAddress = undefined;
  readonly asked: { readonly wanted: number; readonly seconds: number }[] = [];
  readonly removed: number[] = [];
  lease: Lease | undefined = { publicAddress: ip('203.0.113.7'), publicPort: 5555, lifetime: 2 * HOUR };
  /** Never answers a removal. */
  isStuck = false;
  readonly #start = performance.now();

  async map(_inside: number, wanted: number): Promise<Lease | undefined> {
    this.asked.push({ wanted, seconds: Math.round((performance.now() - this.#start) / 1000) });
    return this.lease;
  }

  unmap(_inside: number, lease: Lease): Promise<void> {
    this.removed.push(lease.publicPort);
    return this.isStuck ? new Promise(() => undefined) : Promise.resolve();
  }
}

interface Scene {
  readonly mapper: PortMapper;
  readonly gateway: FakeGateway;
  readonly told: string[];
  router: string | undefined;
  own: string;
  found: boolean;
}

function scene(): Scene {
  const told: string[] = [];
  const gateway = new FakeGateway();
  const log = { info: () => undefined } as unknown as Log;
  const it: Scene = {
    gateway,
    told,
    router: '192.168.1.1',
    own: '192.168.1.2',
    found: true,
    mapper: undefined as never,
  };
  const ways = {
    reach: async (address: IpAddress): Promise<Gateway> => ({ address, own: ip(it.own), pending: new Set() }),
    find: async () => (it.found ? gateway : undefined),
  };
  const parts = {
    gateway: () => (it.router === undefined ? undefined : ip(it.router)),
    insidePort: 40_000,
    entropy: new SystemEntropy(),
    log,
    onMapped: (addresses: readonly unknown[]) => void told.push(addresses.map(String).join()),
  };
  return Object.assign(it, { mapper: new PortMapper(parts, ways) });
}

const pass = (seconds: number): Promise<unknown> => vi.advanceTimersByTimeAsync(seconds * 1000);

describe('a port mapping', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('is renewed at half of its lease, for the port that was given, and told once', async () => {
    const { mapper, gateway, told } = scene();
    mapper.networkChanged();
    await pass(0);
    expect(mapper.status).toEqual({ protocol: 'pcp', address: '203.0.113.7:5555', lifetime: 7200 });
    await pass(2.5 * HOUR);
    expect(gateway.asked).toEqual([
      { wanted: 40_000, seconds: 0 },
      { wanted: 5555, seconds: HOUR },
      { wanted: 5555, seconds: 2 * HOUR },
    ]);
    expect(told).toEqual(['203.0.113.7:5555']);
  });

  it('that is not renewed is tried at half of what is left, and lost at the end of its lease', async () => {
    const { mapper, gateway, told } = scene();
    mapper.networkChanged();
    await pass(0);
    gateway.lease = undefined;
    await pass(2 * HOUR - 20);
    expect(told).toEqual(['203.0.113.7:5555']);
    const times = gateway.asked.map(({ seconds }) => seconds);
    expect(times.slice(1, 5)).toEqual([3600, 5400, 6300, 6750]);
    expect(times.length).toBeLessThan(14);
    await pass(40);
    expect(told).toEqual(['203.0.113.7:5555', '']);
    expect(mapper.status).toBeUndefined();
    gateway.lease = { publicAddress: ip('203.0.113.7'), publicPort: 6666, lifetime: 60 };
    await pass(700);
    expect(told.at(-1)).toBe('203.0.113.7:6666');
  });

  it('follows the gateway to another address and port', async () => {
    const { mapper, gateway, told } = scene();
    mapper.networkChanged();
    await pass(0);
    gateway.lease = { publicAddress: ip('203.0.113.9'), publicPort: 7777, lifetime: 2 * HOUR };
    await pass(HOUR);
    expect(told).toEqual(['203.0.113.7:5555', '203.0.113.9:7777']);
  });

  it('is made anew at another gateway or from another address, and checked when the network changed but not they', async () => {
    const it = scene();
    it.mapper.networkChanged();
    await pass(0);
    it.mapper.networkChanged();
    await pass(0);
    expect(it.gateway.asked.map(({ wanted }) => wanted)).toEqual([40_000, 5555]);
    expect(it.told).toHaveLength(1);
    it.router = '192.168.9.1';
    it.mapper.networkChanged();
    await pass(0);
    expect(it.told).toEqual(['203.0.113.7:5555', '', '203.0.113.7:5555']);
    it.own = '192.168.9.77';
    it.mapper.networkChanged();
    await pass(0);
    expect(it.told).toHaveLength(5);
    it.router = undefined;
    it.mapper.networkChanged();
    await pass(0);
    expect(it.told.at(-1)).toBe('');
    expect(it.mapper.status).toBeUndefined();
  });

  it('that leads to another NAT is not told to peers', async () => {
    for (const address of ['10.1.2.3', '172.31.0.1', '192.168.0.7', '100.64.0.1']) {
      const { mapper, gateway, told } = scene();
      gateway.lease = { publicAddress: ip(address), publicPort: 5555, lifetime: HOUR };
      mapper.networkChanged();
      await pass(0);
      expect(told).toEqual(['']);
      await mapper.stop();
    }
  });

  it('is sought every ten minutes while there is none', async () => {
    const it = scene();
    it.found = false;
    it.mapper.networkChanged();
    await pass(599);
    it.found = true;
    expect(it.told).toEqual([]);
    await pass(1);
    expect(it.told).toEqual(['203.0.113.7:5555']);
  });

  it('a change while the gateway is being asked is not forgotten', async () => {
    const it = scene();
    it.mapper.networkChanged();
    it.router = '192.168.9.1';
    it.mapper.networkChanged();
    await pass(0);
    // The second look found the same lease at the new gateway.
    expect(it.gateway.asked.length).toBeGreaterThanOrEqual(2);
  });

  it.each([false, true])('is removed at the end; a gateway that is stuck (%s) holds up nobody', async (isStuck) => {
    const { mapper, gateway } = scene();
    mapper.networkChanged();
    await pass(0);
    gateway.isStuck = isStuck;
    let isOver = false;
    void mapper.stop().then(() => {
      isOver = true;
    });
    await pass(0.5);
    expect(isOver).toBe(true);
    expect(gateway.removed).toEqual([5555]);
    await pass(3 * HOUR);
    expect(gateway.asked).toHaveLength(1);
    mapper.networkChanged();
    await pass(HOUR);
    expect(gateway.asked).toHaveLength(1);
  });

  it('that comes after the end is removed at once', async () => {
    const { mapper, gateway, told } = scene();
    mapper.networkChanged();
    await mapper.stop();
    await pass(1);
    expect(told).toEqual([]);
    expect(gateway.removed.length).toBe(gateway.asked.length);
  });

  it('questions under way can be given up', () => {
    const ended: number[] = [];
    const gateway = {
      address: ip('192.168.1.1'),
      own: ip('192.168.1.2'),
      pending: new Set([() => void ended.push(1)]),
    };
    giveUpAsking(gateway);
    expect(ended).toEqual([1]);
  });
});
