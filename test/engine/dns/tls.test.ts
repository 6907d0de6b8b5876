/** The resolver over TLS and HTTPS of Node's, with real servers on the loopback: who is trusted, who is asked next. */
import { createServer as createHttps } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { createServer as createTcp } from 'node:net';
import { createServer as createTls } from 'node:tls';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { wallAt } from '../../../src/base/time.js';
import { Engine, nodePlatform } from '../../../src/index.js';
import { type Authority, authority } from '../../quic/harness.js';
import { nodeConnections } from '../node-connections.js';
import { answerTo, resolving as resolvingOf } from './resolving.js';

const NAME = 'dns.example';
const DAY = 86_400_000;

let ca: Authority;
let credentials: { readonly cert: string; readonly key: string };
const servers: Server[] = [];
const engines: Engine[] = [];

beforeAll(async () => {
  ca = await authority('test');
  const dates = { from: wallAt(Date.now() - DAY), to: wallAt(Date.now() + DAY) };
  const { certificate, key } = await ca.issue(NAME, ['server'], dates);
  credentials = { cert: certificate, key };
});
afterEach(() => {
  for (const engine of engines.splice(0)) engine.stop();
});
afterAll(() => {
  for (const server of servers) server.close();
});

function resolving(dnsServers: readonly string[], trusted = ca.pem) {
  const made = resolvingOf(dnsServers, trusted);
  engines.push(made.engine);
  return made;
}

const framed = (message: Uint8Array): Buffer => Buffer.from([message.length >> 8, message.length & 255, ...message]);

async function listening(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** DNS over TLS (RFC 7858), or over plain TCP. */
async function streamServer(isTls: boolean): Promise<{ port: number; asked: string[]; connections: number[] }> {
  const asked: string[] = [];
  const connections: number[] = [];
  const serve = (socket: import('node:net').Socket): void => {
    connections.push(connections.length);
    let buffer = Buffer.alloc(0);
    socket.on('error', () => {});
    socket.on('data', (bytes: Buffer) => {
      buffer = Buffer.concat([buffer, bytes]);
      while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) {
        const end = 2 + buffer.readUInt16BE(0);
        socket.write(framed(answerTo(Uint8Array.from(buffer.subarray(2, end)), asked, isTls ? 'tls' : 'tcp')));
        buffer = buffer.subarray(end);
      }
    });
  };
  const server = isTls ? createTls({ ...credentials, ALPNProtocols: ['dot', 'http/1.1'] }, serve) : createTcp(serve);
  return { port: await listening(server), asked, connections };
}

test('DNS over TLS: several questions on one connection of a verified server', async () => {
  const server = await streamServer(true);
  const { ask, count } = resolving([`tls://127.0.0.1:${server.port}#${NAME}`]);
  expect(await Promise.all(['a.example', 'b.example'].map(ask))).toEqual(['10.1.1.1', '10.1.1.1']);
  expect(await ask('c.example')).toBe('10.1.1.1');
  expect(server.asked.toSorted()).toEqual(['a.example', 'b.example', 'c.example']);
  expect([server.connections.length, count('tls_opened'), count('fallbacks')]).toEqual([1, 1, 0]);
});

test('DNS over HTTPS: a POST to the path and host that the server is known by', async () => {
  const seen: string[] = [];
  const server = createHttps(credentials, (request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      seen.push(`${request.method} ${request.url} ${request.headers.host} ${request.headers['content-type']}`);
      const body = answerTo(Uint8Array.from(Buffer.concat(parts)), [], 'tls');
      response.writeHead(200, { 'content-type': 'application/dns-message' }).end(body);
    });
  });
  const port = await listening(server);
  const { ask, count } = resolving([`https://127.0.0.1:${port}/ask#${NAME}`]);
  expect([await ask('a.example'), await ask('b.example')]).toEqual(['10.1.1.1', '10.1.1.1']);
  expect(seen).toEqual(Array(2).fill(`POST /ask ${NAME} application/dns-message`));
  expect(count('tls_opened')).toBe(1);
});

test('a server that nobody trusts, or of another name, is told nothing, and the next one is asked', async () => {
  const [secret, plain] = [await streamServer(true), await streamServer(false)];
  const others = (await authority('other')).pem;
  const cases: readonly [string, string][] = [
    [`tls://127.0.0.1:${secret.port}#${NAME}`, others],
    [`tls://127.0.0.1:${secret.port}#other.example`, ca.pem],
    [`tls://127.0.0.1:${secret.port}`, ca.pem],
    [`https://127.0.0.1:${secret.port}/dns-query#other.example`, ca.pem],
  ];
  for (const [server, trusted] of cases) {
    const alone = resolving([server], trusted);
    expect(await alone.ask('a.example')).toBe('SERVFAIL');
    expect([alone.count('tls_untrusted') > 0, alone.count('tls_opened')]).toEqual([true, 0]);
    const { ask, count } = resolving([server, `tcp://127.0.0.1:${plain.port}`], trusted);
    expect(await ask('a.example')).toBe('10.1.1.1');
    expect([count('fallbacks'), count('failures')]).toEqual([1, 0]);
    // It comes last from now on: the other one is asked at once.
    expect(await ask('b.example')).toBe('10.1.1.1');
    expect(count('tls_untrusted')).toBe(1);
  }
  expect(secret.asked).toEqual([]);
});

test('a server that closes, and one that does not speak TLS, count as failed', async () => {
  const plain = await streamServer(false);
  const closes = await listening(createTcp((socket) => socket.destroy()));
  const speaksHttp = await listening(createTcp((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')));
  for (const port of [closes, speaksHttp]) {
    const { ask, count } = resolving([`tls://127.0.0.1:${port}#${NAME}`, `tcp://127.0.0.1:${plain.port}`]);
    expect([await ask('a.example'), count('tls_failed'), count('tls_untrusted')]).toEqual(['10.1.1.1', 1, 0]);
  }
});

test('servers that want TLS are refused where there is none', () => {
  const make = (server: string) => () =>
    new Engine({
      device: { packets: () => {} },
      dialers: { direct: nodeConnections(() => undefined as never) },
      platform: nodePlatform(),
      dns: { mode: 'hijack', servers: [server] },
    });
  for (const server of ['tls://192.0.2.53', 'https://192.0.2.53/dns-query#dns.example']) {
    expect(make(server)).toThrow(expect.objectContaining({ code: 'DNS_TLS' }));
  }
  expect(make('tcp://192.0.2.53')).not.toThrow();
});
