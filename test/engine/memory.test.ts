/** The preset `mobile` under floods: everything that grows with traffic stays below 15 MB, and the engine still serves. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { engineSettings } from '../../src/engine/settings.js';
import { tcpPacket, udpPacket } from '../support/packets.js';
import { CLIENT, MockHost } from './replay/mock-host.js';

const CAP = 15_000_000;
const MOBILE = engineSettings('mobile');
/** What a connection's buffers begin with, both ways. */
const FIRST = MOBILE.tcp.sendInitial! + MOBILE.tcp.receiveInitial!;
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const ends = { from: CLIENT, to: '93.184.216.34' };

/** Array buffers and heap together, after a collection. */
function memory(): number {
  // What the first frees is swept by the second.
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** What the engine has grown by while `flood` ran; what the mock keeps is thrown away before. */
function grownBy(host: MockHost, flood: () => void): number {
  const before = memory() - host.clientBytes;
  flood();
  host.packets.length = 0;
  host.families.length = 0;
  for (const connection of host.connections) connection.received.length = 0;
  return memory() - host.clientBytes - before;
}

test('128 connections that all send and receive as much as they can', () => {
  const host = new MockHost({ preset: 'mobile' });
  host.onDial = (connection) => host.engine.connected(connection.id);
  const clients = Array.from({ length: 128 }, (_, i) => host.connect(`93.184.216.34:${i + 1}`));
  host.run(Seconds(1));
  expect(clients.every(({ connected }) => connected)).toBe(true);
  for (const client of clients) client.reads = false;
  for (const connection of host.connections) connection.room = 1000;
  const grown = grownBy(host, () => {
    const chunk = new Uint8Array(16_384);
    for (let round = 0; round < 40; round++) {
      for (const connection of host.connections)
        if (!connection.paused) host.reply(connection, chunk.subarray(0, 4096));
      for (const client of clients) client.connection.write(chunk, 0, chunk.length);
      host.run(Millis(20));
    }
  });
  expect(host.values['buffer_bytes']! + 1024 * 1024).toBeLessThan(CAP);
  expect(host.values['buffer_bytes']).toBeGreaterThan(1_000_000);
  expect(grown).toBeLessThan(CAP);
  expect(host.values['flows_active{protocol=tcp}']).toBe(128);
});

test('windows that have grown while everything flowed hold no more than the budget when it stops', () => {
  const host = new MockHost({ preset: 'mobile' });
  host.onDial = (connection) => host.engine.connected(connection.id);
  const clients = Array.from({ length: 128 }, (_, i) => host.connect(`93.184.216.34:${i + 1}`));
  host.run(Seconds(1));
  const chunk = new Uint8Array(65_536);
  const push = (rounds: number): void => {
    for (let round = 0; round < rounds; round++) {
      for (const connection of host.connections) if (!connection.paused) host.reply(connection, chunk);
      for (const client of clients) client.connection.write(chunk, 0, chunk.length);
      host.run(Millis(20));
      for (const connection of host.connections) connection.received.length = 0;
      for (const client of clients) client.forget();
    }
  };
  const grown = grownBy(host, () => {
    push(15);
    for (const connection of host.connections) connection.room = 0;
    for (const client of clients) client.reads = false;
    push(15);
  });
  expect(host.values['flows_active{protocol=tcp}']).toBe(128);
  expect(host.values['buffer_bytes']).toBeGreaterThan(5_000_000);
  // What each connection begins with, one buffer each way, is outside the budget.
  const { bufferBytes, retainedBytes } = MOBILE.stack;
  expect(host.values['buffer_bytes']).toBeLessThanOrEqual(bufferBytes! + retainedBytes! + 128 * FIRST);
  expect(grown).toBeLessThan(CAP);
});

test('the bounds of all that waits, together, are below 15 MB', () => {
  const { stack, flows, host } = MOBILE;
  const bounds = [
    stack.bufferBytes!,
    stack.connections! * FIRST,
    stack.retainedBytes!,
    stack.reassemblyBytes!,
    flows.shapedBytes,
  ];
  const all = [...bounds, host.ringBytes, host.batchBytes, host.queueBytes];
  expect(all.reduce((sum, one) => sum + one)).toBeLessThan(CAP);
});

test('128 flows of TCP and of UDP, and no more', () => {
  const host = new MockHost({ preset: 'mobile', settings: { flows: { newFlowRate: 1e6, newFlowBurst: 1e6 } } });
  host.onDial = (connection) => host.engine.connected(connection.id);
  const connect = (_: unknown, i: number) => host.connect(`93.184.216.34:${i + 1}`);
  const clients = Array.from({ length: 100 }, connect);
  host.run(Millis(100));
  // As many requests again are not too many at once: flows are.
  clients.push(...Array.from({ length: 100 }, connect));
  host.engine.packets(Array.from({ length: 200 }, (_, i) => udpPacket(ends, 1000 + i, 53, 'x')));
  host.run(Millis(500));
  expect(clients.filter(({ connected }) => connected)).toHaveLength(128);
  expect(host.values).toMatchObject({ 'flows_active{protocol=tcp}': 128, 'flows_active{protocol=udp}': 128 });
});

test('128 connections wait for their dials: the request on top is dropped and counted, and has room when one is decided', () => {
  const host = new MockHost({ preset: 'mobile' });
  const clients = Array.from({ length: 129 }, (_, i) => host.connect(`93.184.216.34:${i + 1}`));
  host.run(Millis(500));
  expect(host.connections).toHaveLength(128);
  // It was neither reset nor told anything: its program asks again.
  expect([host.values['drops{reason=flow_limit}'], host.values['tcp_admission_fail']]).toEqual([1, 0]);
  expect(clients.every(({ closed }) => closed === undefined)).toBe(true);
  host.engine.failed(host.connections[0]!.id, 'refused');
  host.run(Seconds(1));
  expect(host.connections).toHaveLength(129);
});

test('a flood of SYNs and datagrams from ever new ports', () => {
  const host = new MockHost({ preset: 'mobile' });
  const batch: Uint8Array[] = [];
  const grown = grownBy(host, () => {
    for (let n = 0; n < 40_000; n++) {
      batch.push(n % 2 === 0 ? tcpPacket(ends, 1 + (n % 40_000), 80) : udpPacket(ends, 1 + (n % 40_000), 53, 'x'));
      if (batch.length < 200) continue;
      host.engine.packets(batch.splice(0));
      host.run(Millis(5));
      host.connections.splice(0, Math.max(0, host.connections.length - 512));
      host.packets.length = 0;
    }
  });
  expect(grown).toBeLessThan(CAP);
  const { values } = host;
  expect(values['flows_active{protocol=tcp}']).toBeLessThanOrEqual(128);
  expect(values['flows_active{protocol=udp}']).toBeLessThanOrEqual(128);
  expect(values['flows_rate_limited']! + values['tcp_admission_fail']!).toBeGreaterThan(1000);
});

test('a host that hands over without end: what waits is bounded, the rest is counted', () => {
  const host = new MockHost({ preset: 'mobile' });
  host.engine.packets(Array.from({ length: 100 }, (_, i) => udpPacket(ends, 1000 + i, 53, 'x')));
  host.run(Millis(10));
  const data = new Uint8Array(1200);
  const grown = grownBy(host, () => {
    for (let n = 0; n < 20_000; n++) host.reply(host.connections[n % 100]!, data, '9.9.9.9:9');
  });
  expect(grown).toBeLessThan(4_000_000);
  host.run(Seconds(1));
  expect(host.values['backpressure_drops{where=host}']! + host.values['packets_out']!).toBe(20_000);
});
