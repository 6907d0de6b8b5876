/**
 * The size of packets under random loss: packets that get through beyond a lost one prove that it was not its size, also when the
 * peer acknowledges a hundred at once. A path that does swallow a size is found all the same.
 */
import { beforeAll, expect, it } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import type { QuicConnection } from '../../src/quic/connection.js';
import { type Certificates, certificates, makeNet, type Net, write } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

const LOSSES = [0.01, 0.02, 0.05, 0.1];
const PACKETS = 20_000;
/** Of links: room for an inner packet of 1400 bytes. */
const BOUND = 1443;
/** Sizes of inner packets: a random one in `least`–`most`. */
interface Traffic {
  readonly least: number;
  readonly most: number;
  /** Packets per turn, and turns' distance in ms. */
  readonly batch: number;
  readonly pause: number;
  /** Small packets come the other way, so that acknowledgements ride along. */
  readonly isEchoed?: boolean;
}

function established() {
  const net = makeNet(certs, { client: { seed: 1, mtuUpperBound: BOUND }, server: { seed: 2, mtuUpperBound: BOUND } });
  const { client, server, clientSide, serverSide } = net.establish();
  clientSide.keepDatagrams = false;
  serverSide.keepDatagrams = false;
  net.run(Seconds(2));
  return { net, client, server };
}

/** Sends one batch, in halves what does not fit; returns how many did not. */
function sendBatch(net: Net, client: QuicConnection, server: QuicConnection, traffic: Traffic): number {
  const { least, most, batch } = traffic;
  const payloads: Uint8Array[] = [];
  let cut = 0;
  for (let i = 0; i < batch; i++) {
    const length = least + Math.floor(net.entropy.unit() * (most - least + 1));
    const isCut = length > client.maxDatagramSize;
    if (isCut) cut++;
    payloads.push(...(isCut ? [new Uint8Array(length >> 1), new Uint8Array(length >> 1)] : [new Uint8Array(length)]));
  }
  write(net, net.client.endpoint, client, payloads);
  if (traffic.isEchoed === true) {
    write(net, net.server.endpoint, server, new Array<Uint8Array>(batch >> 2).fill(new Uint8Array(52)));
  }
  net.run(Millis(traffic.pause));
  return cut;
}

const TRAFFIC: readonly (readonly [string, Traffic])[] = [
  ['of one size', { least: 1400, most: 1400, batch: 64, pause: 1 }],
  ['of one size, in bursts', { least: 1400, most: 1400, batch: 200, pause: 10 }],
  ['of one size, some at a time, both ways', { least: 1400, most: 1400, batch: 20, pause: 1, isEchoed: true }],
  ['of many sizes, both ways', { least: 1250, most: 1400, batch: 20, pause: 1, isEchoed: true }],
];

it.each(TRAFFIC.flatMap(([name, traffic]) => LOSSES.map((loss) => ({ name, loss, traffic }))))(
  'packets $name are not cut at a random loss of $loss',
  ({ loss, traffic }) => {
    const { net, client, server } = established();
    net.path = (_bytes, entropy) => (entropy.unit() < loss ? undefined : Millis(10));
    const before = client.stats()!;
    let [sent, cut] = [0, 0];
    for (; sent < PACKETS; sent += traffic.batch) cut += sendBatch(net, client, server, traffic);
    net.run(Millis(100));
    expect(cut / sent).toBeLessThan(0.005);
    const { packetsLost, packetsSent } = client.stats()!;
    const share = (packetsLost - before.packetsLost) / (packetsSent - before.packetsSent);
    expect(Math.abs(share / loss - 1)).toBeLessThan(0.25);
  },
);

it('probes of a size that the path does not carry are hardly lost packets: fewer than ring an alarm', () => {
  const net = makeNet(certs, { client: { seed: 1, mtuUpperBound: BOUND }, server: { seed: 2, mtuUpperBound: BOUND } });
  net.path = (bytes) => (bytes.length > 1300 ? undefined : Millis(10));
  const { client } = net.establish();
  for (let i = 0; i < 200; i++) {
    client.sendDatagram(new Uint8Array(100));
    net.run(Millis(10));
  }
  expect(client.stats()!.mtu).toBeGreaterThan(1250);
  expect(client.stats()!.packetsLost).toBeLessThan(2);
});

it.each([0, 0.05])('a path that falls to 1300 bytes is found within a second at a random loss of %s', (loss) => {
  const { net, client, server } = established();
  let limit = Number.POSITIVE_INFINITY;
  net.path = (bytes, entropy) => (bytes.length > limit || entropy.unit() < loss ? undefined : Millis(10));
  const traffic = { least: 1400, most: 1400, batch: 20, pause: 1, isEchoed: true };
  /** With a heartbeat every 50 ms, as links have them while packets are lost. */
  const run = (millis: number) => {
    for (let i = 0; i < millis; i++) {
      if (i % 50 === 0) client.sendDatagram(new Uint8Array(20));
      sendBatch(net, client, server, traffic);
    }
  };
  run(500);
  const before = client.stats()!.blackHoles;
  limit = 1300;
  run(1000);
  expect(client.stats()!.blackHoles).toBeGreaterThan(before);
  // What it does carry is then looked for.
  run(1000);
  expect(client.stats()!.mtu).toBeGreaterThan(1200);
  expect(client.stats()!.mtu).toBeLessThanOrEqual(1300);
});
