/** What a stranger can make this side write to the transmit memory: never more than there is, and never what would be lost of another. */
import { createCipheriv } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Certificates, certificates, makeNet, type Net } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

/** RFC 9001 §5.8: known to everybody. */
const RETRY_KEY = Buffer.from('be0c690b9f66575a1d766b54e368c84e', 'hex');
const RETRY_NONCE = Buffer.from('461599d35d632bf2239825bb', 'hex');
const TOKEN = 0x5a;

/** A Retry that anybody who saw this first Initial could have sent. */
function forgedRetry(initial: Uint8Array, tokenLength: number): Uint8Array {
  const end = 6 + initial[5]!;
  const original = initial.subarray(5, end);
  const source = initial.subarray(end, end + 1 + initial[end]!);
  const head = Buffer.concat([
    Buffer.from([0xf0, 0, 0, 0, 1]),
    source,
    Buffer.from([8, 1, 2, 3, 4, 5, 6, 7, 8]),
    Buffer.alloc(tokenLength, TOKEN),
  ]);
  const cipher = createCipheriv('aes-128-gcm', RETRY_KEY, RETRY_NONCE);
  cipher.setAAD(Buffer.concat([original, head]));
  cipher.final();
  return Buffer.concat([head, cipher.getAuthTag()]);
}

/** The first packet that the client sends; nothing arrives. */
function firstPacket(net: Net): Uint8Array {
  let first: Uint8Array | undefined;
  net.tap = (bytes) => {
    first ??= bytes;
  };
  net.path = () => undefined;
  net.pump(net.client);
  return first!;
}

describe('the token of a Retry', () => {
  it.each([
    [900, 70_000],
    [1_400, 70_000],
    [30_000, 10_000],
    [30_000, 70_000],
    [65_400, 10_000],
    [65_400, 69_632],
  ])('of %i bytes with %i bytes free goes out whole or ends the connection', (length, free) => {
    const net = makeNet(certs);
    const { handler } = net.connect();
    net.deliver(net.client, forgedRetry(firstPacket(net), length), net.server.address);
    const { endpoint } = net.client;
    endpoint.process(net.now);
    const isSent = endpoint.transmit(net.now, endpoint.tx.length - free, 44);
    endpoint.process(net.now);
    expect(isSent).toBe(length < 1_000);
    expect(handler.closed).toHaveLength(isSent ? 0 : 1);
    if (isSent) expect(endpoint.out.segment).toBeLessThanOrEqual(1_200);
  });
});

describe('a stateless reset', () => {
  it('that finds no room is counted, and the next one goes', () => {
    const keys = { resetKey: new Uint8Array(32).fill(5), connectionIdKey: new Uint8Array(8).fill(7) };
    const net = makeNet(certs, { server: keys });
    const { client } = net.establish();
    client.sendDatagram(new Uint8Array(200));
    const packet = firstPacket(net);
    // The same server after a restart.
    const { server } = makeNet(certs, { server: keys });
    const long = Buffer.concat([packet, Buffer.alloc(60_000)]);
    const free = 10_000;
    let [sent, suppressed] = [0, 0];
    for (let i = 0; i < 20; i++) {
      net.deliver(server, long, net.client.address);
      while (server.endpoint.transmit(net.now, server.endpoint.tx.length - free, 44)) {
        expect(server.endpoint.out.length).toBeLessThanOrEqual(free);
        sent++;
      }
      suppressed = server.endpoint.counters().suppressed;
    }
    expect(sent + suppressed).toBe(20);
    expect(suppressed).toBeGreaterThan(0);
    net.deliver(server, packet, net.client.address);
    expect(server.endpoint.transmit(net.now, 0, 44)).toBe(true);
  });
});
