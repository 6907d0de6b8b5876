import { describe, expect, it } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { Millis } from '../../../src/base/time.js';
import { EHOSTUNREACH } from '../../../src/os/io.js';
import type { FilterSpec, PacketIo } from '../../../src/os/packet-io.js';
import { driverFilters } from '../../../src/os/windows/driver-filters.js';
import { openWindowsPacketIo } from '../../../src/os/windows/packet-io.js';
import { parseSockaddr, sockaddr } from '../../../src/os/windows/sockaddr.js';
import { Tracer } from '../../../src/trace/engine/tracer.js';
import type { TraceOptions, TraceRun } from '../../../src/trace/types.js';
import { options } from '../../trace/engine/paths.js';
import { icmp, ip } from '../../trace/net/packets.js';
import { LOCAL, lineOfRouters, router, TARGET } from '../line-of-routers.js';
import { type Attempt, type FakeNetwork, FakeWindows } from './fake-system.js';

const network: FakeNetwork = lineOfRouters;
/** The same for connection attempts. @param error at the target */
const attempts =
  (error: number) =>
  (ttl: number, to: SocketAddress): Attempt => {
    const { family } = to.ip;
    if (ttl >= 4) return { after: 20, error };
    return { after: 5 * ttl, error: 10065, router: router(family, ttl), type: family === 4 ? 11 : 3, code: 0 };
  };

async function trace(system: FakeWindows, driver: boolean, change: Partial<TraceOptions>): Promise<TraceRun> {
  const tracer = new Tracer(openWindowsPacketIo(system, driver), new SeededEntropy(3));
  try {
    const wish = options({ maxTtl: 8, sendDelay: Millis(1), timeout: Millis(500), privilege: 'auto', ...change });
    for await (const event of tracer.run(wish, new AbortController().signal)) {
      if (event.kind === 'done') return event.run;
    }
    throw new Error('no result');
  } finally {
    tracer.close();
  }
}
const path = (family: 4 | 6): string[] => [1, 2, 3].map((ttl) => `${router(family, ttl)}`).concat(`${TARGET[family]}`);
const shown = (run: TraceRun): (string | undefined)[] => run.hops.map(({ replies }) => replies[0]?.from.toString());
const closed = (system: FakeWindows) => expect.poll(() => system.openCount).toBe(0);
const thrown = (act: () => unknown): unknown => {
  try {
    act();
  } catch (error) {
    return error;
  }
  return undefined;
};

describe('a trace on Windows by raw sockets', () => {
  it.each(['udp', 'icmp'] as const)(
    'by %s finds its path over one socket, and leaves nothing open',
    async (protocol) => {
      const system = new FakeWindows(network);
      const run = await trace(system, false, { protocol, destination: TARGET[4] });
      expect(shown(run)).toEqual(path(4));
      expect(run).toMatchObject({ reached: true, privilege: 'raw', source: { ip: LOCAL[4] } });
      await closed(system);
    },
  );

  it('lets a reserved port go before it sends, and reads only after it has sent', () => {
    const system = new FakeWindows(network);
    const io = openWindowsPacketIo(system, false);
    const source = io.source(() => undefined);
    const { local } = io.reserveUdp(new SocketAddress(TARGET[4], 80), 0, {});
    expect([local.ip.toString(), system.openCount]).toEqual(['192.0.2.1', 0]);
    const sink = io.sink(4, {});
    expect([...system.sockets.values()].map(({ poll }) => poll)).toEqual([undefined]);
    const packet = icmp({ from: LOCAL[4], to: TARGET[4] }, 8, 0, 1, new Uint8Array(1));
    sink.send(packet, 0, packet.length, TARGET[4]);
    expect([...system.sockets.values()].map(({ poll }) => typeof poll)).toEqual(['function']);
    source.close();
    io.close();
  });

  it('counts what does not fit, and goes on', async () => {
    const system = new FakeWindows();
    const io = openWindowsPacketIo(system, false);
    let got = 0;
    const source = io.source(() => got++);
    io.reserveUdp(new SocketAddress(TARGET[4], 80), 0, {});
    const sink = io.sink(4, {});
    const packet = icmp({ from: LOCAL[4], to: TARGET[4] }, 8, 0, 1, new Uint8Array(1));
    sink.send(packet, 0, packet.length, TARGET[4]);
    system.deliver(new Uint8Array(3_000));
    system.deliver(packet);
    await expect.poll(() => got).toBe(1);
    expect(source.counters).toEqual({ packets: 1, unusable: 1 });
    system.failures.set('sendto', 10065);
    expect(sink.send(packet, 0, packet.length, TARGET[4])).toBe(-EHOSTUNREACH);
    source.close();
    io.close();
    await closed(system);
  });

  it.each([
    ['syn', 4, 0, 'syn_ack'],
    ['syn_socket', 4, 10061, 'rst'],
    ['syn_socket', 6, 0, 'syn_ack'],
    ['prefer_sack', 6, 10061, 'rst'],
  ] as const)('by tcp %s over IPv%i is made of connection attempts', async (tcpMethod, family, error, kind) => {
    const system = new FakeWindows(network, attempts(error));
    const run = await trace(system, false, { protocol: 'tcp', tcpMethod, port: 443, destination: TARGET[family] });
    expect(shown(run)).toEqual(path(family));
    expect(run).toMatchObject({ reached: true, privilege: 'unprivileged', source: { ip: LOCAL[family] } });
    expect(run.hops[0]!.replies[0]).toMatchObject({
      kind: 'time_exceeded',
      icmp: { type: family === 4 ? 11 : 3, code: 0 },
    });
    expect(run.hops[3]!.replies[0]!.kind).toBe(kind);
    await closed(system);
  });

  it('is silence where an attempt ends otherwise', async () => {
    const system = new FakeWindows(network, (ttl) =>
      ttl === 2 ? { after: 5, error: 10065 } : attempts(0)(ttl, new SocketAddress(TARGET[4], 1)),
    );
    const run = await trace(system, false, { protocol: 'tcp', destination: TARGET[4] });
    expect(shown(run)).toEqual(path(4).map((hop, i) => (i === 1 ? undefined : hop)));
    await closed(system);
  });

  it('says what is not possible', async () => {
    const to = new SocketAddress(TARGET[4], 80);
    const failing = (call: string, error: number): PacketIo => {
      const system = new FakeWindows();
      system.failures.set(call, error);
      return openWindowsPacketIo(system, false);
    };
    const io = openWindowsPacketIo(new FakeWindows(), false);
    expect(thrown(() => io.sink(6, {}))).toMatchObject({
      code: 'FAMILY_NOT_SUPPORTED',
      hint: expect.stringContaining('--windows-driver'),
    });
    expect(thrown(() => io.reserveUdp(to, 0, { device: 'x' }))).toMatchObject({ code: 'DEVICE_NOT_FOUND' });
    expect(thrown(() => io.reserveUdp(to, 0, { mark: 1 }))).toMatchObject({ code: 'MARK_NOT_SUPPORTED' });
    expect(thrown(() => failing('connect', 10051).reserveUdp(to, 0, {}))).toMatchObject({ code: 'ENETUNREACH' });
    expect(thrown(() => failing('bind', 10048).reserveTcp(to, 80, {}))).toMatchObject({ code: 'ADDRESS_IN_USE' });
    const denied = new FakeWindows();
    denied.failures.set('socket', 10013);
    const run = trace(denied, false, { protocol: 'udp', destination: TARGET[4] });
    await expect(run).rejects.toMatchObject({ code: 'DENIED', message: expect.stringContaining('administrator') });
    const sack = trace(new FakeWindows(), false, { protocol: 'tcp', tcpMethod: 'sack', destination: TARGET[4] });
    await expect(sack).rejects.toMatchObject({
      message: expect.stringContaining('SACK not supported for this target/source'),
    });
  });
});

describe('a trace on Windows by the driver', () => {
  it.each([
    ['udp', 4],
    ['udp', 6],
    ['icmp', 4],
    ['icmp', 6],
    ['tcp', 4],
    ['tcp', 6],
  ] as const)('by %s over IPv%i finds its path, and leaves nothing open', async (protocol, family) => {
    const system = new FakeWindows(network);
    const run = await trace(system, true, { protocol, destination: TARGET[family] });
    expect(shown(run)).toEqual(path(family));
    expect(run).toMatchObject({ reached: true, privilege: 'raw' });
    await closed(system);
  });

  it('starts the driver once, and says which of both steps failed', () => {
    const system = new FakeWindows();
    system.failures.set('openService', 5);
    expect(thrown(() => openWindowsPacketIo(system, true))).toMatchObject({
      code: 'DRIVER_NOT_AVAILABLE',
      message: 'StartDriver failed to init driver: error 5',
    });
    system.failures.clear();
    system.failures.set('startService', 1058);
    expect(thrown(() => openWindowsPacketIo(system, true))).toMatchObject({
      message: 'StartDriver failed to start driver: error 1058',
    });
    // It runs already.
    system.failures.set('startService', 1056);
    openWindowsPacketIo(system, true);
    openWindowsPacketIo(system, true);
    expect(system.starts).toBe(2);
  });

  it('keeps 800 reads at the driver, with room for 150 bytes, and gives them back after every packet', async () => {
    const system = new FakeWindows();
    const io = openWindowsPacketIo(system, true);
    const got: number[] = [];
    const source = io.source((_bytes, _offset, length) => got.push(length));
    source.filter({ kind: 'icmp' });
    const [handle] = system.handles.values();
    expect([handle!.reads.length, handle!.flags]).toEqual([800, 0x4000_0000]);
    expect(new Set(handle!.reads.map(({ length }) => length))).toEqual(new Set([72 + 150]));
    const packet = icmp({ from: TARGET[4], to: LOCAL[4] }, 0, 0, 1, new Uint8Array(1));
    const fitting = icmp({ from: TARGET[4], to: LOCAL[4] }, 0, 0, 1, new Uint8Array(150 - 28));
    const long = icmp({ from: TARGET[4], to: LOCAL[4] }, 0, 0, 1, new Uint8Array(151 - 28));
    for (let i = 0; i < 1_000; i++) system.deliver(packet);
    await expect.poll(() => got.length).toBe(800);
    expect(handle!.reads).toHaveLength(800);
    for (const one of [fitting, long, packet]) system.deliver(one);
    await expect.poll(() => got.length).toBe(802);
    expect(got.slice(-2)).toEqual([150, packet.length]);
    expect(source.counters).toEqual({ packets: 802, unusable: 1 });
    source.close();
    await closed(system);
  });

  it('changes its filters by a new handle, without losing what was read', async () => {
    const system = new FakeWindows();
    const io = openWindowsPacketIo(system, true);
    let got = 0;
    const source = io.source(() => got++);
    source.filter({ kind: 'icmp' });
    system.deliver(icmp({ from: TARGET[4], to: LOCAL[4] }, 0, 0, 1, new Uint8Array(1)));
    source.filter({ kind: 'ports', ports: [40_000] });
    expect(got).toBe(1);
    await expect.poll(() => system.handles.size).toBe(1);
    system.failures.set('deviceIoControl', 87);
    expect(thrown(() => source.filter({ kind: 'icmp' }))).toMatchObject({
      code: 'FILTER_FAILED',
      message: 'failed to set filter: failed to create packet filters: error 87',
    });
    system.failures.set('createFile', 2);
    expect(thrown(() => io.sink(4, {}))).toMatchObject({
      code: 'DRIVER_NOT_AVAILABLE',
      message: 'opening the driver: error 2',
    });
    source.close();
    await closed(system);
  });

  it('asks for what each specification says, each with a twin that is discarded', () => {
    const rows = (spec: FilterSpec): string[] => {
      const system = new FakeWindows();
      const handle = system.createFile('\\\\.\\x', 0xc000_0000, 0);
      for (const filter of driverFilters(spec))
        expect(system.deviceIoControl(handle, 0x12200c, filter, new Uint8Array(8))).toBe(1);
      return system.handles
        .get(handle)!
        .filters.map(
          (one) =>
            `${one.family} ${one.protocol} ${one.local}:${one.localPort} ${one.remote}:${one.remotePort}${one.discard ? ' discard' : ''}`,
        );
    };
    const twins = (...wanted: string[]): string[] => wanted.flatMap((one) => [one, `${one} discard`]);
    const both = ['2 1 :0 :0', '23 58 :0 :0'];
    expect(rows({ kind: 'nothing' })).toEqual([]);
    expect(rows({ kind: 'none' })).toEqual(twins('2 0 :0 :0', '23 0 :0 :0'));
    expect(rows({ kind: 'icmp' })).toEqual(twins(...both));
    expect(rows({ kind: 'udp' })).toEqual(twins(...both));
    const tuple = {
      kind: 'tcp',
      source: new SocketAddress(TARGET[4], 443),
      destination: new SocketAddress(LOCAL[4], 4_000),
    } as const;
    expect(rows(tuple)).toEqual(twins(...both, '2 6 192.0.2.1:4000 203.0.113.9:443'));
    const six = {
      kind: 'tcp',
      source: new SocketAddress(TARGET[6], 443),
      destination: new SocketAddress(LOCAL[6], 4_000),
    } as const;
    expect(rows(six)).toEqual(twins(...both, '23 6 2001:db8::1:4000 2001:db8:9::9:443'));
    expect(rows({ kind: 'syn-ack' })).toEqual(twins(...both, '2 6 :0 :0', '23 6 :0 :0'));
    expect(rows({ kind: 'ports', ports: [80] })).toEqual(twins(...both, '2 6 :80 :0', '23 6 :80 :0'));
  });

  it('writes socket addresses as Windows does', () => {
    const v4 = new SocketAddress(ip('192.0.2.1'), 4433);
    expect(Buffer.from(sockaddr(v4)).toString('hex')).toBe('02001151c00002010000000000000000');
    const v6 = new SocketAddress(ip('2001:db8::1'), 80);
    expect(Buffer.from(sockaddr(v6)).toString('hex')).toBe('170000500000000020010db800000000000000000000000100000000');
    for (const address of [v4, v6]) expect(parseSockaddr(sockaddr(address))?.equals(address)).toBe(true);
    expect(parseSockaddr(Uint8Array.from([1, 0, 0, 0]))).toBeUndefined();
  });
});
