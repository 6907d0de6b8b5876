/**
 * Paths that carry less than 1500 bytes: nothing disappears without a word. Fragments serve the first two seconds and packets of
 * up to 1280 bytes always; everything else is told the size that fits.
 */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { BACKEND, connected, type Scene, scene } from '../connector/fixtures.js';
import { App, pattern } from '../support/app.js';
import { PROTO, readPacket, tcpPacket, udpPacket } from '../support/packets.js';
import { live, overlay } from './fixtures.js';

/** Largest UDP payload of the narrow path. */
const NARROW = 1300;
const SYN = 2;
const UDP_BACKEND = '10.0.0.5:5353';

async function narrow(side: 'agent' | 'connector', tun: boolean): Promise<Scene> {
  const it = await scene({ agent: { tun } });
  (side === 'agent' ? it.agent : it.connector).host.path.maxPayload = NARROW;
  return it;
}

/** An IP packet of exactly `size` bytes to the DNS service. */
const sized = (it: Scene, size: number): Uint8Array =>
  udpPacket({ from: overlay(it.agent), to: '10.100.0.2' }, 4000, 53, pattern(size - 28));

test.each(['agent', 'connector'] as const)(
  'a fresh link over a path narrow at the %s carries large packets in parts',
  async (side) => {
    const it = await narrow(side, true);
    const backend = it.connector.host.sockets.udpBackend(UDP_BACKEND);
    backend.onDatagram = (flow, bytes) => flow.reply(bytes);
    for (const size of [1400, 1281, 1201]) it.agent.tun!.send(sized(it, size));
    expect(it.world.until(() => it.agent.tun!.delivered.length === 3, Seconds(1))).toBe(true);
    expect(it.agent.tun!.take().map((packet) => packet.length)).toEqual([1400, 1281, 1201]);
    expect(backend.flows[0]!.sent.every((bytes) => Buffer.compare(bytes, pattern(bytes.length)) === 0)).toBe(true);
  },
);

test('later: up to 1280 bytes still pass, larger ones are answered with the size that fits', async () => {
  const it = await narrow('agent', true);
  const backend = it.connector.host.sockets.udpBackend(UDP_BACKEND);
  it.agent.tun!.send(sized(it, 100));
  expect(live(it.world, it.agent)).toBe(true);
  // Until size discovery has made up its mind.
  it.world.run(Seconds(10));
  expect(it.world.network.tooLarge).toBeGreaterThan(0);
  it.agent.tun!.take();
  backend.flows[0]!.sent.length = 0;
  for (const size of [1280, 1400]) it.agent.tun!.send(sized(it, size));
  it.world.run(Seconds(1));
  expect(backend.flows[0]!.sent.map((bytes) => bytes.length + 28)).toEqual([1280]);
  const [answer, ...more] = it.agent.tun!.take().map(readPacket);
  expect(more).toEqual([]);
  expect(answer).toMatchObject({ protocol: PROTO.icmp, icmpType: 3, icmpCode: 4, from: '10.100.0.2' });
  const told = answer!.rest & 0xffff;
  expect(told).toBeGreaterThanOrEqual(1280);
  expect(told).toBeLessThan(NARROW);
  it.agent.tun!.send(sized(it, told));
  it.world.run(Seconds(1));
  expect(backend.flows[0]!.sent.at(-1)!.length + 28).toBe(told);
});

test('the size that a SYN offers is cut to what the link carries', async () => {
  const it = await narrow('agent', true);
  const seen: number[] = [];
  const offer = (mss: number): void => {
    const options = Uint8Array.of(2, 4, mss >> 8, mss & 255);
    it.agent.tun!.send(tcpPacket({ from: overlay(it.agent), to: '10.100.0.1' }, 5000 + seen.length, 80, SYN, options));
  };
  it.agent.tun!.send(sized(it, 100));
  expect(live(it.world, it.agent)).toBe(true);
  it.world.run(Seconds(10));
  const session = it.agent.session('c1')!;
  const mtu = session.link!.innerMtu(it.world.now, 1400);
  expect(mtu).toBeLessThan(NARROW);
  // What the connector's stack then sends of itself tells what it was offered.
  const target = it.connector.host.sockets.tcpBackend(BACKEND);
  target.onConnect = (stream) => stream.say(pattern(6000));
  // The datagram that began the session was for nobody, which its sender has been told.
  it.agent.tun!.take();
  offer(1460);
  it.world.until(() => it.agent.tun!.delivered.length > 0);
  const synAck = readPacket(it.agent.tun!.take()[0]!);
  expect(synAck).toMatchObject({ protocol: PROTO.tcp, flags: 0x12 });
  const ack = tcpPacket({ from: overlay(it.agent), to: '10.100.0.1' }, 5000, 80, 0x10);
  new DataView(ack.buffer).setUint32(24, 1001);
  new DataView(ack.buffer).setUint32(28, (new DataView(synAck.transport.buffer).getUint32(4) + 1) >>> 0);
  const whole = tcpAck(ack);
  it.agent.tun!.send(whole);
  it.world.run(Seconds(3));
  const sizes = it.agent.tun!.take().map((packet) => packet.length);
  expect(sizes.length).toBeGreaterThan(0);
  expect(it.connector.core.drops.get('too_big')).toBe(0);
});

test.each([
  ['agent', 'up'],
  ['agent', 'down'],
  ['connector', 'up'],
  ['connector', 'down'],
] as const)(
  'a transfer over a path narrow at the %s, %s, begun on a fresh link, comes to its end',
  async (side, way) => {
    const it = await narrow(side, false);
    const { app, stream } = connected(it);
    const whole = pattern(3_000_000);
    // Slowly at first: the flow is older than the time in which parts serve.
    for (let i = 0; i < 40; i++) {
      const part = whole.subarray(i * 10_000, (i + 1) * 10_000);
      if (way === 'up') app.say(part);
      else stream.say(part);
      it.world.run(Millis(100));
    }
    if (way === 'up') app.say(whole.subarray(400_000));
    else stream.say(whole.subarray(400_000));
    const received = (): number => (way === 'up' ? stream.receivedBytes : app.receivedBytes);
    expect(it.world.until(() => received() === whole.length, Seconds(30))).toBe(true);
    expect(Buffer.compare(way === 'up' ? stream.received : app.received, whole)).toBe(0);
  },
);

test('a path that becomes narrow in mid-transfer delays it and no more', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  app.say(pattern(500_000));
  it.world.run(Seconds(10));
  it.agent.host.path.maxPayload = NARROW;
  app.say(pattern(500_000));
  stream.say(pattern(500_000));
  expect(it.world.until(() => stream.receivedBytes === 1_000_000 && app.receivedBytes === 500_000, Seconds(60))).toBe(
    true,
  );
});

test('programs that begin after discovery run over the narrow path as well', async () => {
  const it = await narrow('connector', false);
  const first = connected(it);
  it.world.run(Seconds(15));
  first.app.end();
  const app = new App(it.agent, '10.100.0.1:80');
  expect(it.world.until(() => app.connected)).toBe(true);
  const stream = it.connector.host.sockets.tcpBackend(BACKEND).streams.at(-1)!;
  app.say(pattern(1_000_000));
  stream.say(pattern(1_000_000));
  expect(it.world.until(() => stream.receivedBytes === 1_000_000 && app.receivedBytes === 1_000_000, Seconds(20))).toBe(
    true,
  );
});

/** The same packet with its checksum right again. */
function tcpAck(packet: Uint8Array): Uint8Array {
  const view = new DataView(packet.buffer);
  view.setUint16(36, 0);
  let sum = 6 + packet.length - 20;
  for (let i = 12; i < packet.length; i += 2) sum += view.getUint16(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(36, ~sum & 0xffff);
  return packet;
}
