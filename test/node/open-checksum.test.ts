/** Packets whose checksum is left open: only towards ends that take them, and only where nothing looks into them on the way. */
import { expect, test } from 'vitest';
import { Counters } from '../../src/base/counters.js';
import { DROP_REASONS, Drop } from '../../src/base/drop.js';
import { instantAt } from '../../src/base/time.js';
import { Inbound, InboundState } from '../../src/node/inbound.js';
import { Link } from '../../src/node/link.js';
import { Outbound } from '../../src/node/outbound.js';
import { TunPort } from '../../src/node/tun-port.js';
import type { TunDevice } from '../../src/os/io.js';
import type { QuicConnection } from '../../src/quic/connection.js';
import type { QuicEndpoint } from '../../src/quic/endpoint.js';
import { Fragmenter } from '../../src/tunnel/fragments.js';
import { Arena } from '../../src/wire/arena.js';
import { GSO_TCPV4, GSO_TCPV6, VNET_HEADER, VNET_NEEDS_CSUM, VnetFields, writeVnet } from '../../src/wire/vnet.js';
import { makePartial, packet, pattern } from '../wire/packets.js';

const NOW = instantAt(5_000_000);
const SIZE = 1348;

interface Scene {
  /** What went into the link. */
  readonly sent: Uint8Array[];
  readonly outbound: Outbound;
  /** The device hands one super-segment of five packets over. */
  read(): void;
  gate: { isBlocked: boolean };
}

function scene(family: 4 | 6, takesOpen: boolean, maxDatagramSize = 1420): Scene {
  const outboundMemory = { arena: new Arena(256 * 1024), table: new Uint32Array(1024) };
  const memories = [outboundMemory.arena.bytes];
  const sent: Uint8Array[] = [];
  const connection = {
    id: 1,
    maxDatagramSize,
    silentFor: () => 0,
    writeDatagrams: (_now: unknown, count: number, memory = 0) => {
      for (let i = 0; i < count; i++) {
        const at = outboundMemory.table[i * 2]!;
        sent.push(memories[memory]!.slice(at, at + outboundMemory.table[i * 2 + 1]!));
      }
      return count;
    },
    lendDatagrams(now: unknown, count: number): number {
      return this.writeDatagrams(now, count);
    },
  };
  const link = new Link(NOW, connection as unknown as QuicConnection, undefined, 0, new Fragmenter(), () => {});
  link.enter(NOW, 'live');
  link.takesOpen = takesOpen;
  const endpoint = { outbound: outboundMemory, attach: (bytes: Uint8Array) => memories.push(bytes) - 1 };
  const gate = { isBlocked: false, isMetered: false, batchBytes: 65_536, flushLinks: () => {} };
  const drops = new Counters(DROP_REASONS);
  const outbound = new Outbound(endpoint as unknown as QuicEndpoint, gate, drops, 1, { onTooBig: () => {} });
  const whole = makePartial(packet({ family, payload: pattern(SIZE * 4 + 100, 9) }));
  let memory: Uint8Array = new Uint8Array(0);
  const tun = {
    register: (bytes: Uint8Array) => {
      memory = bytes;
      return {};
    },
    read: (_memory: unknown, offset: number) => {
      if (isRead) return 0;
      isRead = true;
      const fields = new VnetFields();
      fields.flags = VNET_NEEDS_CSUM;
      fields.gsoType = family === 4 ? GSO_TCPV4 : GSO_TCPV6;
      fields.gsoSize = SIZE;
      writeVnet(memory, offset, fields);
      memory.set(whole, offset + VNET_HEADER);
      return whole.length + VNET_HEADER;
    },
  };
  let isRead = false;
  const port: TunPort = new TunPort(
    { tun: tun as unknown as TunDevice, outbound, drops, innerMtu: 1400 },
    { onPacket: (now) => port.send(now, link, false) },
  );
  const read = (): void => {
    isRead = false;
    port.read(NOW);
    outbound.flush(NOW);
  };
  return { sent, outbound, read, gate };
}

const versions = (packets: readonly Uint8Array[]): number[] => packets.map((bytes) => bytes[0]! >>> 4);

test.each([4, 6] as const)('IPv%i: only an end that takes them gets any, and it makes the same of them', (family) => {
  const [old, young] = [scene(family, false), scene(family, true)];
  old.read();
  young.read();
  expect(versions(old.sent)).toEqual([family, family, family, family, family]);
  expect(versions(young.sent)).toEqual(old.sent.map(() => family + 1));
  const received = [old, young].map(({ sent }) => {
    const drops = new Counters(DROP_REASONS);
    const out: string[] = [];
    const inbound = new Inbound(drops, {
      emit: ({ arena, offset, length, isPartial, checked }) =>
        out.push(
          `${isPartial} ${checked} ${Buffer.from(arena.bytes.subarray(offset, offset + length)).toString('hex')}`,
        ),
    });
    const arena = new Arena(16 * 1024);
    const table = new Uint32Array(16);
    for (const [i, bytes] of sent.entries()) {
      arena.bytes.set(bytes, i * 1440);
      table.set([i * 1440, bytes.length], i * 2);
    }
    const link = { packetsIn: 0, set: undefined } as unknown as Link;
    inbound.handle(NOW, { arena, bytes: arena.bytes, table, count: sent.length }, new InboundState(), link);
    expect(drops.values[Drop.reserved_frame]).toBe(0);
    return out;
  });
  expect(received[1]).toEqual(received[0]);
  expect(received[1]!.length).toBe(1);
});

test('what waits for a socket is complete', () => {
  const { sent, outbound, read, gate } = scene(4, true);
  const complete = scene(4, false);
  complete.read();
  gate.isBlocked = true;
  read();
  expect(sent).toEqual([]);
  gate.isBlocked = false;
  outbound.drain(NOW);
  expect(sent).toEqual(complete.sent);
});

test('what is cut is complete: the parts hold a packet like any other', () => {
  const { sent, read } = scene(4, true, 1200);
  const complete = scene(4, false, 1200);
  complete.read();
  read();
  expect(versions(sent)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 4]);
  expect(sent).toEqual(complete.sent);
});
