import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProxyAccess } from '../../../src/agent/proxy/access.js';
import { MAX_HEAD } from '../../../src/agent/proxy/http-head.js';
import { HttpProxy } from '../../../src/agent/proxy/http-proxy.js';
import type { Failure } from '../../../src/agent/proxy/negotiation.js';
import { IpAddress, SocketAddress } from '../../../src/base/address.js';

const latin = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'));
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8');

function run(
  text: string,
  sizes: readonly number[] = [],
  access = new ProxyAccess(),
): { http: HttpProxy; answer: string; taken: number } {
  const http = new HttpProxy(access);
  const bytes = latin(text);
  let at = 0;
  let taken = 0;
  for (const size of [...sizes, bytes.length]) {
    const length = Math.min(size, bytes.length - at);
    taken += http.feed(bytes, at, length);
    at += length;
    if (http.state !== 'reading') break;
  }
  return { http, answer: textOf(http.takeReply()), taken };
}

const status = (answer: string): number => Number(/^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1]);

/** The whole answer is one header block and exactly the body it announces. */
function body(answer: string): string {
  const end = answer.indexOf('\r\n\r\n') + 4;
  expect(end).toBeGreaterThan(4);
  const announced = Number(/\r\nContent-Length: (\d+)\r\n/.exec(answer)![1]);
  expect(Buffer.byteLength(answer.slice(end))).toBe(announced);
  return answer.slice(end);
}

describe('HTTP CONNECT', () => {
  it.each([
    ['db.acme.internal:5432', 'db.acme.internal', 5432],
    ['10.100.0.1:80', '10.100.0.1', 80],
    ['[fd12:3456:789a::1]:443', 'fd12:3456:789a::1', 443],
    ['web:65535', 'web', 65535],
  ])('reads %s and leaves the bytes after the header', (authority, host, port) => {
    const request = `CONNECT ${authority} HTTP/1.1\r\nHost: elsewhere.example\r\nUser-Agent: x\r\n\r\n`;
    const { http, taken, answer } = run(`${request}\x16\x03\x01`);
    expect(http.state).toBe('asked');
    expect(http.target).toEqual({ host, port });
    expect(taken).toBe(request.length);
    expect(answer).toBe('');
  });

  it.each([
    ['an empty line first', '\r\nCONNECT web:80 HTTP/1.0\r\n\r\n'],
    ['no fields', 'CONNECT web:80 HTTP/1.1\r\n\r\n'],
    ['no content, announced', 'CONNECT web:80 HTTP/1.1\r\nContent-Length: 0\r\n\r\n'],
    ['a block of the largest size', `CONNECT web:80 HTTP/1.1\r\nX: ${'y'.repeat(MAX_HEAD - 32)}\r\n\r\n`],
  ])('takes %s', (_what, request) => {
    const { http, taken } = run(request);
    expect(http.target).toEqual({ host: 'web', port: 80 });
    expect(taken).toBe(request.length);
  });

  it.each([
    ['bare line feeds', 'CONNECT web:80 HTTP/1.1\nHost: web:80\n\n'],
    ['one bare line feed', 'GET http://web/ HTTP/1.1\r\nHost: web\nX: y\r\n\r\n'],
    ['no port', 'CONNECT web HTTP/1.1\r\n\r\n'],
    ['port 0', 'CONNECT web:0 HTTP/1.1\r\n\r\n'],
    ['port 65536', 'CONNECT web:65536 HTTP/1.1\r\n\r\n'],
    ['an empty host', 'CONNECT :80 HTTP/1.1\r\n\r\n'],
    ['an IPv6 literal without brackets', 'CONNECT fd12::1:80 HTTP/1.1\r\n\r\n'],
    ['brackets around something else', 'CONNECT [1:2:3]:80 HTTP/1.1\r\n\r\n'],
    ['a user', 'CONNECT me@web:80 HTTP/1.1\r\n\r\n'],
    ['another version', 'CONNECT web:80 HTTP/2.0\r\n\r\n'],
    ['two spaces', 'CONNECT  web:80 HTTP/1.1\r\n\r\n'],
    ['a folded field', 'CONNECT web:80 HTTP/1.1\r\nA: b\r\n c\r\n\r\n'],
    ['a space before the colon', 'CONNECT web:80 HTTP/1.1\r\nA : b\r\n\r\n'],
    ['a field without a colon', 'CONNECT web:80 HTTP/1.1\r\nA\r\n\r\n'],
    ['a control character in a field', 'CONNECT web:80 HTTP/1.1\r\nA: b\x00c\r\n\r\n'],
    ['a carriage return inside a field', 'CONNECT web:80 HTTP/1.1\r\nA: b\rC: d\r\n\r\n'],
    ['content', 'CONNECT web:80 HTTP/1.1\r\nContent-Length: 5\r\n\r\n'],
    ['chunks', 'CONNECT web:80 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['TLS', '\x16\x03\x01\x02\x00'],
    ['SOCKS', '\x05\x01\x00'],
    ['too long a header', `CONNECT web:80 HTTP/1.1\r\n${'X: y\r\n'.repeat(3000)}`],
    ['a block one byte too long', `CONNECT web:80 HTTP/1.1\r\nX: ${'y'.repeat(MAX_HEAD - 31)}\r\n\r\n`],
  ])('answers 400 to %s', (_what, request) => {
    const { http, answer } = run(request);
    expect(http.state).toBe('failed');
    expect(status(answer)).toBe(400);
    expect(body(answer)).toMatch(/^.+\n$/);
  });

  it('answers 200 without a body or a length', () => {
    const answer = textOf(new HttpProxy(new ProxyAccess()).accept(new SocketAddress(IpAddress.v4(1), 2)));
    expect(answer).toMatch(/^HTTP\/1\.1 200 [^\r\n]+\r\n\r\n$/);
  });

  it.each([
    ['not-allowed', 403],
    ['net-unreachable', 502],
    ['host-unreachable', 502],
    ['refused', 502],
    ['failed', 502],
    ['timeout', 504],
  ] as [Failure, number][])('answers %s with %i and the reason', (failure, code) => {
    const answer = textOf(new HttpProxy(new ProxyAccess()).refuse(failure, 'db is närby'));
    expect(status(answer)).toBe(code);
    expect(body(answer)).toBe('db is närby\n');
  });

  it('reads the same in any pieces', () => {
    const request = 'CONNECT db.acme.internal:5432 HTTP/1.1\r\nHost: db\r\n\r\n';
    fc.assert(
      fc.property(fc.array(fc.nat(20)), fc.string(), (sizes, more) => {
        const { http, taken } = run(request + more, sizes);
        expect(http.target).toEqual({ host: 'db.acme.internal', port: 5432 });
        expect(taken).toBeLessThanOrEqual(request.length);
      }),
    );
  });

  it('never throws and never keeps more than its limit, whatever comes', () => {
    const pieces = fc.constantFrom(
      'CONNECT ',
      'web:80',
      ' HTTP/1.1',
      '\r\n',
      '\n',
      '\r',
      'A: b',
      ':',
      ' ',
      '[',
      ']',
      '\0',
      'é',
      'GET ',
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(pieces, fc.string()), { maxLength: 40 }), fc.array(fc.nat(30)), (parts, sizes) => {
        const { http, answer, taken } = run(parts.join(''), sizes);
        expect(taken).toBeLessThanOrEqual(MAX_HEAD + 1);
        expect(http.state === 'failed').toBe(answer !== '');
        expect(http.state === 'asked').toBe(http.target !== undefined);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a plain request', () => {
  const head = (text: string): string => textOf(run(text).http.plain!.head);

  it.each([
    ['http://web/a?b=c', 'web', 80, 'GET /a?b=c HTTP/1.1', 'web'],
    ['http://web.acme.internal:8080', 'web.acme.internal', 8080, 'GET / HTTP/1.1', 'web.acme.internal:8080'],
    ['HTTP://[fd12:3456:789a::2]:81?x', 'fd12:3456:789a::2', 81, 'GET /?x HTTP/1.1', '[fd12:3456:789a::2]:81'],
  ])('for %s goes on in origin-form with the Host of its target', (url, host, port, line, authority) => {
    const { http } = run(`GET ${url} HTTP/1.1\r\nHost: elsewhere\r\nAccept: */*\r\n\r\n`);
    expect(http.state).toBe('asked');
    expect(http.target).toEqual({ host, port });
    expect(textOf(http.plain!.head)).toBe(
      `${line}\r\nHost: ${authority}\r\nAccept: */*\r\nVia: 1.1 sallyport\r\nConnection: close\r\n\r\n`,
    );
  });

  it('goes on without what is for this connection only', () => {
    const text = head(
      'POST http://web/ HTTP/1.1\r\nHost: web\r\nConnection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n' +
        'Proxy-Connection: x\r\nProxy-Authorization: Basic eDp5\r\nTE: trailers\r\nTrailer: A\r\nUpgrade: h2c\r\n' +
        'HTTP2-Settings: AAA\r\nContent-Length: 3\r\nCookie: c\r\n\r\n',
    );
    expect(text).toBe(
      'POST / HTTP/1.1\r\nHost: web\r\nCookie: c\r\nContent-Length: 3\r\nVia: 1.1 sallyport\r\nConnection: close\r\n\r\n',
    );
  });

  it('asks for the whole server as OPTIONS *', () => {
    expect(head('OPTIONS http://web HTTP/1.1\r\nHost: web\r\n\r\n')).toMatch(/^OPTIONS \* HTTP\/1\.1\r\n/);
  });

  it.each([
    ['HTTP/1.1', '', true],
    ['HTTP/1.1', 'Connection: close\r\n', false],
    ['HTTP/1.1', 'Proxy-Connection: Close\r\n', false],
    ['HTTP/1.0', 'Connection: keep-alive\r\n', false],
  ])('of %s with "%s" keeps the connection: %s', (version, field, keepAlive) => {
    expect(run(`GET http://web/ ${version}\r\nHost: web\r\n${field}\r\n`).http.plain!.keepAlive).toBe(keepAlive);
  });

  it.each([
    ['a length and chunks', 'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n'],
    ['two lengths', 'Content-Length: 3\r\nContent-Length: 3\r\n'],
    ['a list of lengths', 'Content-Length: 3, 3\r\n'],
    ['a length with a sign', 'Content-Length: +3\r\n'],
    ['another coding', 'Transfer-Encoding: gzip, chunked\r\n'],
    ['a coding in disguise', 'Transfer-Encoding: xchunked\r\n'],
    ['chunks twice', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n'],
    ['an empty coding', 'Transfer-Encoding:\r\n'],
    ['two hosts', 'Host: web\r\n'],
    ['a space before the colon', 'Content-Length : 3\r\n'],
    ['a folded coding', 'Transfer-Encoding:\r\n chunked\r\n'],
  ])('with %s is refused', (_what, fields) => {
    const { answer } = run(`POST http://web/ HTTP/1.1\r\nHost: web\r\n${fields}\r\n`);
    expect(status(answer)).toBe(400);
  });

  it.each([
    ['no target of a proxy', 'GET / HTTP/1.1\r\nHost: web\r\n\r\n', 400],
    ['https without a tunnel', 'GET https://web/ HTTP/1.1\r\nHost: web\r\n\r\n', 400],
    ['a user in its target', 'GET http://me@web/ HTTP/1.1\r\nHost: web\r\n\r\n', 400],
    ['a fragment in its target', 'GET http://web/#x HTTP/1.1\r\nHost: web\r\n\r\n', 400],
    ['no Host', 'GET http://web/ HTTP/1.1\r\n\r\n', 400],
    ['chunks in HTTP/1.0', 'POST http://web/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n', 400],
    ['TRACE', 'TRACE http://web/ HTTP/1.1\r\nHost: web\r\n\r\n', 405],
    ['a tab in its first line', 'GET\thttp://web/ HTTP/1.1\r\nHost: web\r\n\r\n', 400],
  ])('with %s is refused', (_what, text, code) => {
    expect(status(run(text).answer)).toBe(code);
  });
});

describe('users', () => {
  const access = new ProxyAccess([], new Map([['ann', 'pass:wörd']]));
  const ask = (fields: string): { http: HttpProxy; answer: string } =>
    run(`CONNECT web:80 HTTP/1.1\r\n${fields}\r\n`, [], access);
  const basic = (text: string): string => `Proxy-Authorization: Basic ${Buffer.from(text).toString('base64')}\r\n`;

  it('are let in with their password', () => {
    expect(ask(basic('ann:pass:wörd')).http.state).toBe('asked');
  });

  it.each([
    ['nothing', ''],
    ['another password', basic('ann:pass')],
    ['a longer password', basic('ann:pass:wördpass:wörd')],
    ['no password', basic('ann:')],
    ['another name', basic('bob:pass:wörd')],
    ['another scheme', 'Proxy-Authorization: Bearer x\r\n'],
    ['two of them', basic('ann:pass:wörd') + basic('ann:pass:wörd')],
    ['something that is not base64', 'Proxy-Authorization: Basic !\r\n'],
  ])('are asked for it when they give %s', (_what, fields) => {
    const { answer } = ask(fields);
    expect(status(answer)).toBe(407);
    expect(answer).toContain('Proxy-Authenticate: Basic ');
  });
});
