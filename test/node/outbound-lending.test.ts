/**
 * Packets of three links over real QUIC, with windows that shut, sockets that take nothing, loss, and a link that is closed: what
 * arrives is whole, for the link it was written for, and in order.
 */
import { beforeAll, expect, test } from 'vitest';
import { Counters } from '../../src/base/counters.js';
import { DROP_REASONS } from '../../src/base/drop.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { Link } from '../../src/node/link.js';
import { Outbound, type OutboundGate } from '../../src/node/outbound.js';
import { Fragmenter } from '../../src/tunnel/fragments.js';
import { type Certificates, certificates, makeNet } from '../quic/harness.js';
import { udpPacket } from '../support/packets.js';

const STEPS = 1500;
const HEADERS = 28;

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

test.each([1, 2, 3, 4])('course %i', (seed) => {
  const entropy = new SeededEntropy(seed);
  const below = (n: number): number => entropy.uint32() % n;
  const net = makeNet(certs, { client: { inFlightCap: 60_000 } });
  let lossPercent = 0;
  net.path = () => (below(100) < lossPercent ? undefined : Millis(5));
  const gate = {
    isBlocked: false as boolean,
    isMetered: false,
    batchBytes: 65_536,
    flushLinks(): void {
      if (!this.isBlocked) net.pump(net.client);
    },
  } satisfies OutboundGate;
  const { endpoint } = net.client;
  const outbound = new Outbound(endpoint, gate, new Counters(DROP_REASONS), seed, { onTooBig: () => {} });
  const links = [0, 1, 2].map((i) => {
    const { client, serverSide } = net.establish();
    const link = new Link(net.now, client, undefined, i, new Fragmenter(), () => {});
    link.enter(net.now, 'live');
    return { link, client, serverSide, sent: 0 };
  });
  const byteOf = (id: number, n: number): number => (n * 31 + id * 7) & 0xff;
  const send = (one: (typeof links)[number]): void => {
    const { id } = one.link.connection;
    const payload = new Uint8Array(8 + below(1080)).fill(byteOf(id, one.sent));
    const view = new DataView(payload.buffer);
    view.setUint32(0, id);
    view.setUint32(4, one.sent++);
    const packet = udpPacket({ from: '100.64.0.1', to: '10.100.0.1' }, 4000, 53, payload);
    outbound.add(net.now, one.link, packet, 0, packet.length, false);
  };
  let [spare, arrived] = [0, 0];
  const check = (): void => {
    for (const { link, serverSide } of links) {
      let last = -1;
      for (const bytes of serverSide.datagrams) {
        const view = new DataView(bytes.buffer, bytes.byteOffset + HEADERS);
        const [id, n] = [view.getUint32(0), view.getUint32(4)];
        expect(id).toBe(link.connection.id);
        expect(n).toBeGreaterThan(last);
        expect(bytes.subarray(HEADERS + 8).every((byte) => byte === byteOf(id, n))).toBe(true);
        last = n;
        arrived++;
      }
    }
  };
  for (let step = 0; step < STEPS; step++) {
    const one = links[below(3)]!;
    const choice = below(100);
    if (choice < 80) for (let i = below(20); i >= 0; i--) send(one);
    else if (choice < 90) {
      outbound.flush(net.now);
      gate.flushLinks();
      if (!gate.isBlocked) outbound.drain(net.now);
    } else if (choice < 94) net.run(Millis(1 + below(12)));
    else if (choice < 97) gate.isBlocked = !gate.isBlocked;
    else lossPercent = [0, 5, 60][below(3)]!;
    if (step === STEPS - 200) links[0]!.client.close(net.now, 0, '');
    if (outbound.arena !== endpoint.outbound.arena) spare++;
  }
  gate.isBlocked = false;
  lossPercent = 0;
  outbound.flush(net.now);
  outbound.drain(net.now);
  net.run(Seconds(20));
  check();
  expect(arrived).toBeGreaterThan(1000);
  expect(spare).toBeGreaterThan(0);
  expect(endpoint.isLent).toBe(false);
});
