import { describe, expect, it } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { Millis } from '../../../src/base/time.js';
import { openDarwinPacketIo } from '../../../src/os/darwin/packet-io.js';
import { parseSockaddr, sockaddr } from '../../../src/os/darwin/sockaddr.js';
import { ECONNREFUSED, EHOSTUNREACH } from '../../../src/os/io.js';
import { Tracer } from '../../../src/trace/engine/tracer.js';
import type { TraceOptions, TraceRun } from '../../../src/trace/types.js';
import { options } from '../../trace/engine/paths.js';
import { icmp, ip, tcp } from '../../trace/net/packets.js';
import { LOCAL, lineOfRouters, router, TARGET } from '../line-of-routers.js';
import { FakeDarwin, type FakeNetwork } from './fake-system.js';

const network: FakeNetwork = lineOfRouters;

async function trace(system: FakeDarwin, change: Partial<TraceOptions>): Promise<TraceRun> {
  const tracer = new Tracer(openDarwinPacketIo(system, system), new SeededEntropy(3));
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
const closed = (system: FakeDarwin) => expect.poll(() => system.openCount).toBe(0);

describe('a trace on macOS', () => {
  it.each([
    ['udp', 4],
    ['udp', 6],
    ['icmp', 4],
    ['icmp', 6],
    ['tcp', 4],
    ['tcp', 6],
  ] as const)('by %s over IPv%i finds its path, and leaves nothing open', async (protocol, family) => {
    const system = new FakeDarwin(network);
    const run = await trace(system, { protocol, destination: TARGET[family], tos: 8 });
    const path = [1, 2, 3].map((ttl) => router(family, ttl).toString());
    expect(run.hops.map(({ replies }) => replies[0]?.from.toString())).toEqual([...path, TARGET[family].toString()]);
    expect(run).toMatchObject({ reached: true, privilege: 'raw', source: { ip: LOCAL[family] } });
    // Stamped by the capture, which was read later.
    for (const { ttl, replies } of run.hops) {
      expect(replies[0]!.rtt).toBeGreaterThanOrEqual(5 * ttl - 2);
      expect(replies[0]!.rtt).toBeLessThan(400);
    }
    await closed(system);
  });

  it('opens the first free device on the interface that leads there, and sees nothing of its own', async () => {
    const system = new FakeDarwin(network);
    await trace(system, { protocol: 'icmp', destination: TARGET[4] });
    expect(system.calls).toEqual([
      'open /dev/bpf2',
      'setLength 16384',
      'setInterface',
      'linkType 1',
      'immediate 1',
      'seeSent 0',
      'setTimeout',
      'flush',
    ]);
    await closed(system);
  });

  it('opens no second device for another trace on the same interface, and one more for another', () => {
    const system = new FakeDarwin();
    const io = openDarwinPacketIo(system, system);
    const source = io.source(() => undefined);
    const to = (address: string): SocketAddress => new SocketAddress(ip(address), 80);
    for (const address of ['203.0.113.9', '203.0.113.10', '2001:db8:9::9']) io.reserveTcp(to(address), 0, {}).close();
    expect(system.calls.filter((call) => call.startsWith('open'))).toHaveLength(1);
    io.reserveUdp(to('127.0.0.1'), 0, {}).close();
    expect(system.calls.filter((call) => call.startsWith('open'))).toHaveLength(2);
    source.close();
  });

  it('takes packets of every link type as whole IP packets, through the filter', async () => {
    const system = new FakeDarwin();
    const io = openDarwinPacketIo(system, system);
    const got: string[] = [];
    const source = io.source((bytes, offset, length) =>
      got.push(Buffer.from(bytes.subarray(offset, offset + length)).toString('hex')),
    );
    io.reserveUdp(new SocketAddress(TARGET[4], 80), 0, {}).close();
    io.reserveUdp(new SocketAddress(ip('127.0.0.1'), 80), 0, {}).close();
    const echo = icmp({ from: TARGET[4], to: LOCAL[4] }, 0, 0, 7, new Uint8Array(3));
    const segment = tcp(
      { from: TARGET[6], to: LOCAL[6] },
      { sourcePort: 1, destinationPort: 2, sequence: 0, acknowledgment: 0, flags: 4 },
    );
    const both = (): void => {
      for (const name of ['en0', 'lo0']) for (const packet of [echo, segment]) system.deliver(name, packet);
    };
    both();
    source.filter({ kind: 'icmp' });
    both();
    await expect.poll(() => got.length).toBe(2);
    source.filter({ kind: 'none' });
    both();
    await expect.poll(() => got.length).toBe(6);
    const hex = [echo, segment].map((packet) => Buffer.from(packet).toString('hex'));
    // Of two devices there is no order.
    expect(got.sort()).toEqual([hex[0], hex[0], ...hex, ...hex].sort());
    // Cut off by the device: counted, not handed over.
    system.deliver('en0', echo, 30);
    await expect.poll(() => source.counters.unusable).toBe(1);
    expect(source.counters.packets).toBe(6);
    source.close();
    await closed(system);
  });

  it('says in words what the system refuses', async () => {
    const to = new SocketAddress(TARGET[4], 80);
    const failing = (call: string, errno: number): FakeDarwin => {
      const system = new FakeDarwin();
      system.failures.set(call, errno);
      return system;
    };
    const error = (system: FakeDarwin, act: (io: ReturnType<typeof openDarwinPacketIo>) => unknown): unknown => {
      const io = openDarwinPacketIo(system, system);
      const source = io.source(() => undefined);
      try {
        act(io);
      } catch (thrown) {
        return thrown;
      } finally {
        source.close();
      }
      return undefined;
    };
    const reserve = (io: ReturnType<typeof openDarwinPacketIo>) => io.reserveUdp(to, 0, {});
    expect(error(failing('open', 13), reserve)).toMatchObject({
      code: 'RAW_NOT_PERMITTED',
      message: 'opening /dev/bpf0: not permitted',
      hint: expect.stringContaining('/dev/bpf*'),
    });
    const busy = new FakeDarwin();
    busy.busy = 256;
    expect(error(busy, reserve)).toMatchObject({ code: 'CAPTURE_NOT_AVAILABLE' });
    const ppp = new FakeDarwin();
    ppp.interfaces['en0'] = { ...ppp.interfaces['en0']!, linkType: 9 };
    expect(error(ppp, reserve)).toMatchObject({ code: 'LINK_TYPE_NOT_SUPPORTED', message: 'en0 has the link type 9' });
    expect(error(failing('setFilter', 22), reserve)).toMatchObject({ code: 'FILTER_FAILED' });
    expect(error(failing('setInterface', 6), reserve)).toMatchObject({
      code: 'SOCKET_FAILED',
      message: 'capturing on en0: errno 6',
    });
    expect(error(failing('connect', 51), reserve)).toMatchObject({ code: 'ENETUNREACH' });
    expect(error(failing('bind', 48), (io) => io.reserveTcp(to, 80, {}))).toMatchObject({ code: 'ADDRESS_IN_USE' });
    expect(error(failing('socket', 1), (io) => io.sink(4, {}))).toMatchObject({ code: 'RAW_NOT_PERMITTED' });
    expect(error(new FakeDarwin(), (io) => io.sink(4, { device: 'en9' }))).toMatchObject({ code: 'DEVICE_NOT_FOUND' });
    expect(error(new FakeDarwin(), (io) => io.sink(4, { mark: 1 }))).toMatchObject({ code: 'MARK_NOT_SUPPORTED' });
    const run = trace(failing('open', 13), { protocol: 'udp', destination: TARGET[4] });
    await expect(run).rejects.toMatchObject({ code: 'DENIED', message: expect.stringContaining('run as root') });
  });

  it('gives errors of sending and connecting the numbers that engines know', async () => {
    const system = new FakeDarwin();
    const io = openDarwinPacketIo(system, system);
    const sink = io.sink(4, {});
    const packet = icmp({ from: LOCAL[4], to: TARGET[4] }, 8, 0, 1, new Uint8Array(1));
    expect(sink.send(packet, 0, packet.length, TARGET[4])).toBe(packet.length);
    system.failures.set('sendto', 65);
    expect(sink.send(packet, 0, packet.length, TARGET[4])).toBe(-EHOSTUNREACH);
    system.failures.set('connectLater', 61);
    const session = io.session(new SocketAddress(TARGET[4], 80), {});
    expect(await new Promise((resolve) => session.connect(resolve))).toBe(-ECONNREFUSED);
    session.close();
    sink.close();
    expect(system.openCount).toBe(0);
    expect(io.deviceMtu(TARGET[4], {})).toBe(1_400);
  });

  it('writes socket addresses as BSD does', () => {
    const v4 = new SocketAddress(ip('192.0.2.1'), 4433);
    expect(Buffer.from(sockaddr(v4)).toString('hex')).toBe('10021151c00002010000000000000000');
    const v6 = new SocketAddress(ip('2001:db8::1'), 80);
    expect(Buffer.from(sockaddr(v6)).toString('hex')).toBe('1c1e00500000000020010db800000000000000000000000100000000');
    for (const address of [v4, v6]) expect(parseSockaddr(sockaddr(address))?.equals(address)).toBe(true);
    expect(parseSockaddr(Uint8Array.from([16, 18, 0, 0]))).toBeUndefined();
    expect(parseSockaddr(sockaddr(v6).subarray(0, 20))).toBeUndefined();
  });
});
