/** The resolver over HTTPS with HTTP/2 of Node's, with a real server on the loopback: many at once, refusals, resets, ends. */
import {
  createSecureServer,
  type Http2SecureServer,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { wallAt } from '../../../src/base/time.js';
import { type Authority, authority } from '../../quic/harness.js';
import { answerTo, resolving } from './resolving.js';

const NAME = 'dns.example';
const DAY = 86_400_000;
const REFUSED_STREAM = 7;
const CANCEL = 8;
const INTERNAL_ERROR = 2;

let ca: Authority;
let credentials: { readonly cert: string; readonly key: string };
const closing: (() => void)[] = [];

beforeAll(async () => {
  ca = await authority('test');
  const dates = { from: wallAt(Date.now() - DAY), to: wallAt(Date.now() + DAY) };
  const { certificate, key } = await ca.issue(NAME, ['server'], dates);
  credentials = { cert: certificate, key };
});
afterEach(() => {
  for (const close of closing.splice(0)) close();
});
afterAll(() => {
  for (const close of closing.splice(0)) close();
});

interface Asked {
  readonly stream: ServerHttp2Stream;
  readonly name: string;
  readonly session: number;
  /** Answers it as it should be. */
  answer(status?: number): void;
}

/** A server that hands every question to `serve`; `allows1`: HTTP/1.1 too. */
async function dohServer(serve: (asked: Asked, count: number) => void) {
  const sessions: ServerHttp2Session[] = [];
  const heads: string[] = [];
  const ends: number[] = [];
  const server: Http2SecureServer = createSecureServer(credentials);
  let count = 0;
  server.on('session', (session) => {
    sessions.push(session);
    session.on('error', () => {});
  });
  server.on('stream', (stream, headers) => {
    heads.push(`${headers[':method']} ${headers[':path']} ${headers[':authority']} ${headers['content-type']}`);
    stream.on('error', () => {});
    stream.on('close', () => ends.push(stream.rstCode));
    const parts: Buffer[] = [];
    stream.on('data', (part: Buffer) => parts.push(part));
    stream.on('end', () => {
      const names: string[] = [];
      const body = answerTo(Uint8Array.from(Buffer.concat(parts)), names, 'tls');
      serve(
        {
          stream,
          name: names[0]!,
          session: sessions.indexOf(stream.session as ServerHttp2Session),
          answer: (status = 200) => {
            if (stream.destroyed) return;
            stream.respond({ ':status': status, 'content-type': 'application/dns-message' });
            stream.end(body);
          },
        },
        count++,
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `https://127.0.0.1:${port}/ask#${NAME}`, sessions, heads, ends };
}

function asking(...servers: string[]) {
  const made = resolving(servers, ca.pem);
  closing.push(() => made.engine.stop());
  return made;
}

const ADDRESS = '10.1.1.1';
const names = (n: number): string[] => Array.from({ length: n }, (_, i) => `n${i}.example`);

test('many questions at once on one connection, each a POST with its own stream, answered in any order', async () => {
  const held: Asked[] = [];
  const server = await dohServer((asked) => {
    held.push(asked);
    // The last one is answered first: nobody waits for another's answer.
    if (held.length === 20) for (const one of held.toReversed()) one.answer();
  });
  const { ask, count } = asking(server.url);
  expect(await Promise.all(names(20).map(ask))).toEqual(Array(20).fill(ADDRESS));
  expect(server.sessions).toHaveLength(1);
  expect(server.heads).toEqual(Array(20).fill(`POST /ask ${NAME} application/dns-message`));
  expect([count('tls_opened'), count('malformed'), count('fallbacks')]).toEqual([1, 0, 0]);
});

test('no more streams at once than are allowed; the others wait', async () => {
  let open = 0;
  let most = 0;
  const server = await dohServer((asked) => {
    most = Math.max(most, ++open);
    setImmediate(() => {
      open--;
      asked.answer();
    });
  });
  const { ask } = asking(server.url);
  expect(await Promise.all(names(150).map(ask))).toEqual(Array(150).fill(ADDRESS));
  expect([server.sessions.length, most > 1, most <= 100]).toEqual([1, true, true]);
});

test('after a GOAWAY what was taken is answered, what was not goes to a new connection, and nothing is lost', async () => {
  const held: Asked[] = [];
  const server = await dohServer((asked, count) => {
    if (asked.session > 0) asked.answer();
    else if (count < 2) held.push(asked);
    if (held.length === 2 && asked.session === 0) {
      asked.stream.session!.goaway(0, held[0]!.stream.id!);
      setImmediate(() => held[0]!.answer());
    }
  });
  const { ask, count } = asking(server.url);
  expect(await Promise.all(names(2).map(ask))).toEqual([ADDRESS, ADDRESS]);
  expect(await ask('later.example')).toBe(ADDRESS);
  expect(server.sessions).toHaveLength(2);
  expect([count('failures'), count('fallbacks')]).toEqual([0, 0]);
});

test('a refused stream is asked again on a new connection; refused again, and reset otherwise, it has failed', async () => {
  const server = await dohServer((asked, count) => {
    if (count === 0) asked.stream.close(REFUSED_STREAM);
    else if (asked.name === 'a.example') asked.answer();
    else asked.stream.close(asked.name === 'b.example' ? REFUSED_STREAM : INTERNAL_ERROR);
  });
  const second = await dohServer((asked) => asked.answer());
  const alone = asking(server.url);
  expect(await alone.ask('a.example')).toBe(ADDRESS);
  expect([server.sessions.length, alone.count('timeouts')]).toEqual([2, 0]);
  expect(await alone.ask('b.example')).toBe('SERVFAIL');
  const { ask, count } = asking(server.url, second.url);
  expect(await ask('c.example')).toBe(ADDRESS);
  expect([count('fallbacks'), count('timeouts')]).toEqual([1, 0]);
});

test('statuses, garbage and bodies without an end are no answers', async () => {
  const server = await dohServer((asked) => {
    const { stream, name } = asked;
    if (name.startsWith('status')) asked.answer(500);
    else {
      stream.respond({ ':status': 200 });
      if (name.startsWith('garbage')) stream.end('abc');
      else stream.write(Buffer.alloc(70_000));
    }
  });
  const { ask, count } = asking(server.url);
  expect(await Promise.all(['status.example', 'garbage.example'].map(ask))).toEqual(['SERVFAIL', 'SERVFAIL']);
  expect(count('malformed')).toBe(6);
  expect(await ask('long.example')).toBe('SERVFAIL');
  await vi.waitFor(() => expect(server.ends).toContain(CANCEL));
});

test('a connection that ends takes its questions with it, and the next one makes another', async () => {
  const server = await dohServer((asked, count) => {
    if (count === 0) asked.stream.session!.destroy();
    else asked.answer();
  });
  const { ask, count } = asking(server.url);
  expect(await ask('a.example')).toBe(ADDRESS);
  expect([server.sessions.length, count('tls_opened'), count('timeouts')]).toEqual([2, 2, 0]);
});
