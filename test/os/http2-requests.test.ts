/** Requests over HTTP/2 against Node's own server on the loopback: every end a request may have, and what the server sees of it. */
import {
  createSecureServer,
  type Http2SecureServer,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:tls';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import { wallAt } from '../../src/base/time.js';
import { http2Requests } from '../../src/os/http2-requests.js';
import type { HttpRequests, HttpResponse } from '../../src/os/io.js';
import { authority } from '../quic/harness.js';

const DAY = 86_400_000;
const [NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL] = [0, 2, 7, 8];
const TYPE = 'application/dns-message';
const QUESTION = Uint8Array.of(1, 2, 3);

let credentials: { readonly cert: string; readonly key: string };
const closing: (() => void)[] = [];

beforeAll(async () => {
  const ca = await authority('test');
  const dates = { from: wallAt(Date.now() - DAY), to: wallAt(Date.now() + DAY) };
  const { certificate, key } = await ca.issue('dns.example', ['server'], dates);
  credentials = { cert: certificate, key };
});
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

type Served = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, body: Buffer) => void;

/** A client on a connection of its own to a server that hands every whole request to `serve`. */
async function client(serve: Served) {
  const server: Http2SecureServer = createSecureServer(credentials);
  const ends: number[] = [];
  server.on('session', (session) => {
    session.on('error', () => {});
    closing.push(() => session.destroy());
  });
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    stream.on('close', () => ends.push(stream.rstCode));
    const parts: Buffer[] = [];
    stream.on('data', (part: Buffer) => parts.push(part));
    stream.on('end', () => serve(stream, headers, Buffer.concat(parts)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const socket = connect({ host: '127.0.0.1', port, ALPNProtocols: ['h2'], rejectUnauthorized: false });
  socket.on('error', () => {});
  closing.push(() => socket.destroy());
  await new Promise<void>((resolve) => socket.once('secureConnect', () => resolve()));
  let sessionEnds = 0;
  const requests: HttpRequests = http2Requests(
    socket,
    () => sessionEnds++,
    () => {},
  );
  const post = (body = QUESTION) =>
    new Promise<HttpResponse | 'refused' | 'failed'>((resolve) => {
      requests.post('dns.example', '/q', TYPE, body, resolve);
    });
  return { requests, post, ends, socket, sessionEnds: () => sessionEnds };
}

const respond = (stream: ServerHttp2Stream, length: number): void => {
  stream.respond({ ':status': 200 });
  stream.end(Buffer.alloc(length, 7));
};

test('a request is a POST of exactly the bytes it was given, and its response comes whole', async () => {
  const seen: IncomingHttpHeaders[] = [];
  let sent: Buffer | undefined;
  const { post } = await client((stream, headers, body) => {
    seen.push(headers);
    sent = body;
    expect(stream.pushAllowed).toBe(false);
    expect(stream.session!.remoteSettings.maxHeaderListSize).toBe(16_384);
    stream.respond({ ':status': 203 });
    stream.write(Uint8Array.of(4));
    setImmediate(() => stream.end(Uint8Array.of(5, 6)));
  });
  const lent = QUESTION.slice();
  const answered = post(lent);
  // It was only lent.
  lent.fill(0);
  expect(await answered).toEqual({ status: 203, body: Uint8Array.of(4, 5, 6) });
  expect([...sent!]).toEqual([...QUESTION]);
  expect(seen[0]).toMatchObject({
    ':method': 'POST',
    ':path': '/q',
    ':authority': 'dns.example',
    accept: TYPE,
    'content-type': TYPE,
    'content-length': '3',
  });
});

test('a body of the greatest length passes; of one that is longer nothing more is taken', async () => {
  let length = 65_535;
  const { post, ends } = await client((stream) => {
    if (length < 100_000) respond(stream, length);
    else {
      // Without an end: the client has to say that it is enough.
      stream.respond({ ':status': 200 });
      stream.write(Buffer.alloc(length));
    }
  });
  expect(await post()).toMatchObject({ status: 200, body: { length: 65_535 } });
  length = 65_536;
  expect(await post()).toBe('failed');
  length = 100_000;
  expect(await post()).toBe('failed');
  await vi.waitFor(() => expect(ends.at(-1)).toBe(CANCEL));
});

test.each([
  ['refused before it was looked at', (stream) => stream.close(REFUSED_STREAM), 'refused'],
  ['reset', (stream) => stream.close(INTERNAL_ERROR), 'failed'],
  ['closed without a response', (stream) => stream.close(NO_ERROR), 'failed'],
  [
    'reset in the middle of its body',
    (stream) => {
      stream.respond({ ':status': 200 });
      stream.write('half', () => stream.destroy(new Error('of the server')));
    },
    'failed',
  ],
  [
    'reset behind its whole response',
    (stream) => {
      stream.respond({ ':status': 200, 'content-length': 4 });
      stream.write('full', () => stream.destroy(new Error('of the server')));
    },
    'failed',
  ],
  [
    'answered with more fields than anybody needs',
    (stream) => {
      stream.respond({ ':status': 200, ...Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`x-${i}`, '1'])) });
      stream.end('x');
    },
    'failed',
  ],
] satisfies [string, (stream: ServerHttp2Stream) => void, string][])(
  'a request that is %s',
  async (_what, serve, end) => {
    const { post } = await client(serve);
    expect(await post()).toBe(end);
  },
);

test('after a GOAWAY what was taken is answered, what was not is refused, and so is the next request', async () => {
  const held: ServerHttp2Stream[] = [];
  const { post, requests, sessionEnds } = await client((stream) => {
    held.push(stream);
    if (held.length < 2) return;
    stream.session!.goaway(NO_ERROR, held[0]!.id!);
    // What comes then from the second one is a reset like any other: only the GOAWAY says that nobody has looked at it.
    setTimeout(() => {
      held[1]!.close(CANCEL);
      respond(held[0]!, 1);
    }, 20);
  });
  const ends = [post(), post()];
  await vi.waitFor(() => expect(held).toHaveLength(2));
  expect(await ends[1]).toBe('refused');
  expect(await ends[0]).toMatchObject({ status: 200 });
  expect(await post()).toBe('refused');
  const told: unknown[] = [];
  requests.post('dns.example', '/q', TYPE, QUESTION, (end) => told.push(end))();
  await vi.waitFor(() => expect(sessionEnds()).toBe(1));
  await new Promise((resolve) => setImmediate(resolve));
  expect(told).toEqual([]);
});

test('a withdrawn request is cancelled, and nobody is told of its end', async () => {
  const held: ServerHttp2Stream[] = [];
  const { post, requests, ends } = await client((stream) => {
    if (held.push(stream) === 2) respond(stream, 1);
  });
  const told: unknown[] = [];
  const withdraw = requests.post('dns.example', '/q', TYPE, QUESTION, (end) => told.push(end));
  await vi.waitFor(() => expect(held).toHaveLength(1));
  withdraw();
  await vi.waitFor(() => expect(ends).toEqual([CANCEL]));
  expect(await post()).toMatchObject({ status: 200 });
  expect(told).toEqual([]);
});

test('the end of the connection is told once, and fails what is out', async () => {
  const { post, sessionEnds } = await client((stream) => stream.session!.destroy());
  expect(await post()).toBe('failed');
  await vi.waitFor(() => expect(sessionEnds()).toBe(1));
  expect(await post()).toBe('refused');
  expect(sessionEnds()).toBe(1);
});
