/** The relay over TCP towards strangers: who gets a stream, what is carried, and what ends it. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { MAX_PER_SOURCE, serveTcpRelay, type TcpRelay } from '../../src/control/tcp-relay.js';
import { STREAM_OPTIONS, TCP_PATH, TCP_SUBPROTOCOL } from '../../src/node/tcp-bridge.js';
import { DatagramBatchWriter, readDatagramBatch } from '../../src/tunnel/datagram-batch.js';
import { TestNetwork } from './network.js';

let network: TestNetwork;
let relay: Socket;
let tcp: TcpRelay;
const streams: WebSocket[] = [];

beforeEach(async () => {
  network = new TestNetwork();
  await network.start();
  relay = createSocket('udp4');
  relay.bind(0, '127.0.0.1');
  await once(relay, 'listening');
  const log = { info: () => undefined, warn: () => undefined, error: () => undefined };
  tcp = serveTcpRelay(network.server.server, { address: '127.0.0.1', port: relay.address().port }, log);
});
afterEach(async () => {
  for (const stream of streams.splice(0)) stream.terminate();
  await tcp.stop();
  relay.close();
  await network.stop();
});

function open(path = TCP_PATH, protocol = TCP_SUBPROTOCOL): Promise<WebSocket> {
  const tls = { ca: [network.folder.caPem], servername: 'relay.relay.acme' };
  const stream = new WebSocket(`wss://127.0.0.1:${network.port}${path}`, [protocol], { ...STREAM_OPTIONS, ...tls });
  streams.push(stream);
  return new Promise((resolve, reject) => {
    stream.on('error', reject);
    stream.on('open', () => resolve(stream));
  });
}

const message = (...texts: string[]): Uint8Array => {
  const writer = new DatagramBatchWriter();
  for (const text of texts) writer.add(Buffer.from(text));
  return writer.take();
};

describe('the relay over TCP', () => {
  it('carries datagrams both ways, each stream from a port of its own', async () => {
    const [one, other] = [await open(), await open()];
    const heard = new Map<string, number>();
    const arrived = new Promise<void>((resolve) => {
      relay.on('message', (payload, from) => {
        heard.set(`${payload}`, from.port);
        relay.send(`${payload} back`, from.port, from.address);
        if (heard.size === 3) resolve();
      });
    });
    const answers: string[] = [];
    const answered = new Promise<void>((resolve) => {
      one.on('message', (batch: Buffer) => {
        readDatagramBatch(batch, (payload) => answers.push(Buffer.from(payload).toString()));
        if (answers.length === 2) resolve();
      });
    });
    one.send(message('a', 'b'));
    other.send(message('c'));
    await Promise.all([arrived, answered]);
    expect(answers.sort()).toEqual(['a back', 'b back']);
    expect(heard.get('a')).toBe(heard.get('b'));
    expect(heard.get('c')).not.toBe(heard.get('a'));
    expect(tcp.counters).toMatchObject({ datagramsIn: 3, dropped: 0 });
    expect(tcp.streams).toBe(2);
  });

  it('hears only the relay’s own port', async () => {
    const stream = await open();
    stream.send(message('hello'));
    const [, from] = (await once(relay, 'message')) as [Buffer, { port: number; address: string }];
    const stranger = createSocket('udp4');
    stranger.send('forged', from.port, from.address);
    const next = once(stream, 'message') as Promise<[Buffer]>;
    await new Promise((resolve) => stranger.close(resolve as () => void));
    relay.send('true', from.port, from.address);
    const texts: string[] = [];
    readDatagramBatch((await next)[0], (payload) => texts.push(Buffer.from(payload).toString()));
    expect(texts).toEqual(['true']);
  });

  it.each([
    ['/api/v1/other', TCP_SUBPROTOCOL, 404],
    [TCP_PATH, 'chat', 400],
  ])('refuses %s as %s', async (path, protocol, status) => {
    await expect(open(path, protocol)).rejects.toThrow(`${status}`);
    expect(tcp.refused).toBe(1);
  });

  it('has so many streams for one source and no more, and room again when one ends', async () => {
    for (let i = 0; i < MAX_PER_SOURCE; i++) await open();
    await expect(open()).rejects.toThrow('503');
    const closed = once(streams[0]!, 'close');
    streams[0]!.close();
    await closed;
    await open();
  });

  it.each([
    ['a length beyond its end', Uint8Array.from([0, 9, 1])],
    ['an empty datagram', Uint8Array.from([0, 0])],
  ])('ends a stream with %s', async (_what, bytes) => {
    const stream = await open();
    const closed = once(stream, 'close') as Promise<[number]>;
    stream.send(bytes);
    expect((await closed)[0]).toBe(1002);
  });
});
