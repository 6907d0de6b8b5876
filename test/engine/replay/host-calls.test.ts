/** What passes between an engine and its host, call by call: batches longer than a turn, lent bytes, numbers that mean nothing any more. */
import { expect, test } from 'vitest';
import { Millis } from '../../../src/base/time.js';
import { PacketRing } from '../../../src/engine/host/packet-ring.js';
import { udpPacket } from '../../support/packets.js';
import { CLIENT, MockHost } from './mock-host.js';

const WEB = '93.184.216.34:443';
const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

test('a batch that is longer than a turn takes is taken in turns that follow at once', () => {
  const host = new MockHost();
  const ends = { from: CLIENT, to: '93.184.216.34' };
  host.engine.packets(Array.from({ length: 1000 }, (_, i) => udpPacket(ends, 4000, 5000, `${i}`)));
  host.run(Millis(0));
  expect(host.last.received).toHaveLength(1000);
});

test('each datagram of a port is sent where it is for', () => {
  const host = new MockHost();
  const to = ['93.184.216.34', '93.184.216.35', '93.184.216.34'];
  host.engine.packets(to.map((ip) => udpPacket({ from: CLIENT, to: ip }, 4000, 5000, 'x')));
  host.run(Millis(1));
  expect([host.connections.length, host.last.to]).toEqual([1, to.map((ip) => `${ip}:5000`)]);
});

test('bytes that the host hands over are its own again at once', () => {
  const host = new MockHost();
  const { client, host: connection } = host.open(WEB);
  const bytes = utf8('as it was');
  host.reply(connection, bytes);
  bytes.fill(0);
  host.run(Millis(10));
  expect(new TextDecoder().decode(client.data)).toBe('as it was');
});

test('nothing is sent on a connection that the host has closed', () => {
  const host = new MockHost();
  const { client, host: connection } = host.open(WEB);
  host.engine.closed(connection.id, 'finished');
  host.run(Millis(10));
  client.connection.write(utf8('too late'), 0, 8);
  host.run(Millis(10));
  expect([connection.bytes, connection.ended, connection.closed]).toEqual([0, false, undefined]);
});

test('what waited for flows that have ended waits no more', () => {
  const host = new MockHost({ preset: 'mobile' });
  for (let i = 0; i < 60; i++) {
    const flow = host.open(WEB);
    flow.client.reads = false;
    for (let k = 0; k < 40; k++) host.reply(flow.host, new Uint8Array(4096));
    flow.client.connection.abort();
    host.run(Millis(100));
    expect(flow.host.closed).toBe('aborted');
  }
  const { client, host: connection } = host.open(WEB);
  host.reply(connection, 'here');
  expect(connection.paused).toBe(false);
  host.run(Millis(10));
  expect(client.data).toHaveLength(4);
});

test('what a packet ring does not use at its end is passed over, whatever lay there before', () => {
  const ring = new PacketRing(1024);
  const lengths: number[] = [];
  const shift = () => ring.shift((_arena, _offset, length) => lengths.push(length));
  const push = (length: number) => expect(ring.push(new Uint8Array(length).fill(0xff))).toBe(true);
  push(500);
  push(500);
  shift();
  push(300);
  shift();
  push(300);
  push(300);
  shift();
  // It does not fit behind, where bytes of the second packet lie.
  push(200);
  shift();
  shift();
  shift();
  expect(lengths).toEqual([500, 500, 300, 300, 300, 200]);
});
