/** What a node takes from its sockets: from its relay’s address, and from nobody else. */
import { expect, test } from 'vitest';
import type { SocketAddress } from '../../src/base/address.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { channelNumber, virtualAddress } from '../../src/node/virtual-address.js';
import { Frame } from '../../src/tunnel/frames.js';
import { connected, type Scene, scene } from '../connector/fixtures.js';
import { innerPacket } from '../support/rogue.js';
import { at } from '../support/sim-nodes.js';

const STRANGER = at('203.0.113.50:4433');

function inject(it: Scene, from: SocketAddress, ...payloads: Uint8Array[]): void {
  for (const bytes of payloads) it.world.network.send(from, it.agent.udp[0]!.external, bytes, it.agent.host.path);
  it.world.run(Millis(50));
}

function relayed(channel: string, inner: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(9 + inner.length);
  bytes[0] = Frame.relayed;
  bytes.set(Buffer.from(channel, 'hex'), 1);
  bytes.set(inner, 9);
  return bytes;
}

const revalidate = (length = 9): Uint8Array => {
  const bytes = new Uint8Array(length).fill(5);
  bytes[0] = Frame.revalidate;
  return bytes;
};

async function live(): Promise<Scene & { readonly channel: string }> {
  const it = await scene();
  connected(it);
  // Size discovery has its say first.
  it.world.run(Seconds(5));
  const { high, low } = it.agent.session('c1')!.channel!;
  const hex = (word: number): string => word.toString(16).padStart(8, '0');
  return { ...it, channel: hex(high) + hex(low) };
}

test('frames, links’ packets and QUIC from anybody else are dropped and counted, nothing is answered', async () => {
  const it = await live();
  const before = it.agent.udp[0]!.counters.datagramsOut;
  const { channel } = it;
  inject(it, STRANGER, revalidate(), relayed(channel, innerPacket(50)), innerPacket(50), Uint8Array.of(0x80, 1));
  const sameHost = at('192.0.2.1:4434');
  inject(it, sameHost, revalidate());
  expect(it.agent.core.drops.get('unknown_source')).toBe(5);
  expect(it.agent.udp[0]!.counters.datagramsOut).toBe(before);
  expect(it.agent.session('c1')!.isLive).toBe(true);
});

test('from the relay: frames of no kind, of a wrong length, of no channel are counted', async () => {
  const it = await live();
  const relay = it.world.relay.addresses[0]!;
  inject(it, relay, Uint8Array.of(0x00), Uint8Array.of(0x3f, 1, 2), Uint8Array.of(0x80), revalidate(8), revalidate(10));
  expect(it.agent.core.drops.get('unknown_frame')).toBe(5);
  inject(it, relay, relayed('0123456789abcdef', innerPacket(50)));
  expect(it.agent.core.drops.get('unknown_channel')).toBe(1);
  inject(it, relay, relayed(it.channel, innerPacket(20)), Uint8Array.of(Frame.relayed, 1));
  expect(it.agent.core.drops.get('malformed')).toBe(2);
  expect(it.agent.session('c1')!.isLive).toBe(true);
});

test('a run of many kinds from the relay is told apart segment by segment', async () => {
  const it = await live();
  const relay = it.world.relay.addresses[0]!;
  const links = it.agent.endpoints.links.counters().packets;
  const own = it.agent.endpoints.relay.counters().packets;
  const size = 100;
  const other = new Uint8Array(size).fill(0x33);
  inject(
    it,
    relay,
    relayed(it.channel, innerPacket(size - 9, 1)),
    relayed(it.channel, innerPacket(size - 9, 2)),
    innerPacket(size),
    other,
    relayed('0123456789abcdef', innerPacket(size - 9)),
    relayed(it.channel, innerPacket(size - 9, 3)),
  );
  expect(it.agent.endpoints.links.counters().packets - links).toBe(3);
  expect(it.agent.endpoints.relay.counters().packets - own).toBe(1);
  expect(it.agent.core.drops.snapshot()).toMatchObject({ unknown_frame: 1, unknown_channel: 1 });
});

test('a REVALIDATE of the relay is answered on the relay connection', async () => {
  const it = await live();
  const before = it.world.relay.core.drops.get('unknown_frame');
  inject(it, it.world.relay.addresses[0]!, revalidate());
  it.world.run(Seconds(1));
  // The relay did not ask: it knows no such nonce, and says nothing.
  expect(it.world.relay.core.drops.get('unknown_frame')).toBe(before);
  expect(it.world.relay.core.forwarder.counters.revalidated).toBe(0);
});

test('a new link is a new virtual address, which never was another’s', async () => {
  const it = await live();
  const seen = new Set<number>();
  for (let i = 0; i < 5; i++) {
    const session = it.agent.session('c1')!;
    seen.add(session.channel!.number);
    const before = session.link;
    before!.connection.close(it.world.now, 0, '');
    it.agent.host.reactor.wake();
    expect(it.world.until(() => session.isLive && session.link !== before, Seconds(10))).toBe(true);
  }
  expect(seen.size).toBe(5);
});

test('virtual addresses and channel numbers are each other’s inverse; no real address is one', () => {
  const words = new Uint32Array(10);
  for (const number of [1, 2, 65_536, 0xffff_ffff]) {
    virtualAddress(number).write(words, 1);
    expect(channelNumber(words, 1)).toBe(number);
  }
  for (const text of ['192.0.2.1:1', '[2001:db8::1]:1', '[fd53:616c:6c7a::1]:1']) {
    at(text).write(words, 0);
    expect(channelNumber(words, 0)).toBe(-1);
  }
});
