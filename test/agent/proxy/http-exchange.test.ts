import { afterEach, describe, expect, it } from 'vitest';
import { KEPT_TIMEOUT } from '../../../src/agent/proxy/proxy-connection.js';
import { closeWorlds, type World, world } from './world.js';

afterEach(closeWorlds);

const GET = 'GET http://web/a HTTP/1.1\r\nHost: web\r\n\r\n';
const SENT = 'GET /a HTTP/1.1\r\nHost: web\r\nVia: 1.1 sallyport\r\nConnection: close\r\n\r\n';
const POST = (framing: string): string => `POST http://web/ HTTP/1.1\r\nHost: web\r\n${framing}\r\n\r\n`;

/** The service's newest connection answers, and ends its stream as it was asked to. */
function answer(w: World, text: string, ends = true): void {
  w.service.send(text);
  if (ends) w.service.connection.shutdownWrite();
  w.settle();
}

describe('a plain request', () => {
  it('reaches the service and its answer the client', () => {
    const w = world();
    const client = w.client('http', GET);
    expect(w.service.to.toString()).toBe('10.100.0.2:80');
    expect(w.service.text()).toBe(SENT);
    answer(w, 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\nX: y\r\n\r\nhello');
    expect(client.text()).toBe('HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\nVia: 1.1 sallyport\r\n\r\nhello');
    expect(client.serverEnded).toBe(false);
    expect(w.server.counters.snapshot()).toMatchObject({ http_requests: 1, dials: 1 });
  });

  it('may be followed by others on the same connection, for other services, and by a tunnel', () => {
    const w = world();
    const client = w.client('http', GET);
    // Sent before the answer: it waits its turn.
    client.send('HEAD http://db:5432/ HTTP/1.1\r\nHost: db\r\n\r\n');
    w.settle();
    expect(w.network.connections).toHaveLength(1);
    answer(w, 'HTTP/1.1 204 No Content\r\n\r\n');
    expect(w.service.to.toString()).toBe('10.100.0.1:5432');
    expect(w.service.text()).toMatch(/^HEAD \/ /);
    answer(w, 'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n');
    client.received.length = 0;
    client.send('CONNECT web:443 HTTP/1.1\r\n\r\nTLS');
    w.settle();
    expect(client.text()).toMatch(/^HTTP\/1\.1 200 /);
    expect(w.service.text()).toBe('TLS');
    client.clientReset = true;
    w.settle();
    expect(w.ended[0]!.client).toMatchObject({ outcome: 'broken', service: 'web' });
  });

  it('takes two requests that come in one piece', () => {
    const w = world();
    const client = w.client('http', `${GET}${GET.replace('/a', '/b')}`);
    answer(w, 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1');
    expect(w.service.text()).toBe(SENT.replace('/a', '/b'));
    answer(w, 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2');
    expect(client.text().match(/\r\n\r\n\d/g)).toEqual(['\r\n\r\n1', '\r\n\r\n2']);
  });

  it('carries content of a known length and leaves what is behind it', () => {
    const w = world();
    const client = w.client('http', `${POST('Content-Length: 10')}01234`);
    client.send(`56789${GET}`);
    w.settle();
    expect(w.service.text()).toMatch(/\r\nContent-Length: 10\r\n[\s\S]*\r\n\r\n0123456789$/);
    answer(w, 'HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n');
    expect(w.service.text()).toBe(SENT);
  });

  it('carries chunks both ways', () => {
    const w = world();
    const client = w.client('http', `${POST('Transfer-Encoding: chunked')}5;x\r\nhello\r\n0\r\nT: 1\r\n\r\n`);
    expect(w.service.text()).toMatch(/\r\nTransfer-Encoding: chunked\r\n[\s\S]*\r\n\r\n5\r\nhello\r\n0\r\n\r\n$/);
    answer(w, 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n', false);
    answer(w, '0\r\n\r\n');
    expect(client.text()).toMatch(/\r\nTransfer-Encoding: chunked\r\n[\s\S]*\r\n\r\n3\r\nabc\r\n0\r\n\r\n$/);
    expect(client.serverEnded).toBe(false);
  });

  it('of HTTP/1.0 gets content without chunks, and no second turn', () => {
    const w = world();
    const client = w.client('http', 'GET http://web/ HTTP/1.0\r\n\r\n');
    answer(
      w,
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
    );
    expect(client.text()).toBe('HTTP/1.1 200 OK\r\nVia: 1.1 sallyport\r\nConnection: close\r\n\r\nabc');
    expect(client.serverEnded).toBe(true);
  });

  it('gets interim answers before the real one', () => {
    const w = world();
    const client = w.client('http', POST('Content-Length: 2\r\nExpect: 100-continue'));
    answer(w, 'HTTP/1.1 100 Continue\r\n\r\n', false);
    expect(client.text()).toBe('HTTP/1.1 100 Continue\r\nVia: 1.1 sallyport\r\n\r\n');
    client.send('ab');
    w.settle();
    answer(w, 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    expect(client.text()).toMatch(/HTTP\/1\.1 200 OK/);
  });

  it('ends with the connection when only that tells where its answer ends', () => {
    const w = world();
    const client = w.client('http', GET);
    answer(w, 'HTTP/1.0 200 OK\r\n\r\nall of it', false);
    expect(client.serverEnded).toBe(false);
    w.service.connection.shutdownWrite();
    w.settle();
    expect(client.text()).toMatch(/\r\nConnection: close\r\n\r\nall of it$/);
    expect(client.serverEnded).toBe(true);
    client.clientEnded = true;
    w.settle();
    expect(w.ended[0]!.outcome).toBe('finished');
  });

  it('that is answered before it is complete ends the connection', () => {
    const w = world();
    const client = w.client('http', `${POST('Content-Length: 10')}012`);
    answer(w, 'HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n');
    expect(client.text()).toMatch(/^HTTP\/1\.1 413 [\s\S]*\r\nConnection: close\r\n\r\n$/);
    expect(client.serverEnded).toBe(true);
  });

  it('is moved only as fast as either side takes it', () => {
    const w = world(16_384);
    const client = w.client('http', `${POST('Content-Length: 200000')}`);
    w.network.hold = true;
    client.send(new Uint8Array(200_000).fill(0x61));
    w.settle();
    expect(client.unread).toBeGreaterThan(150_000);
    w.network.hold = false;
    w.settle();
    expect(client.unread).toBe(0);
    client.room = 100;
    answer(w, `HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n${'b'.repeat(1000)}`);
    expect(client.received).toHaveLength(100);
    client.room = 500;
    w.settle();
    expect(client.received).toHaveLength(600);
    client.room = Number.POSITIVE_INFINITY;
    w.settle();
    expect(client.text().endsWith('b'.repeat(1000))).toBe(true);
    const [served] = [...w.server.clients];
    expect(served!.bytesOut).toBeGreaterThan(200_000);
    expect(served!.bytesIn).toBeGreaterThan(1000);
  });
});

describe('a client that keeps its connection', () => {
  it('is let go after a while without a request', () => {
    const w = world();
    const client = w.client('http', GET);
    answer(w, 'HTTP/1.1 204 No Content\r\n\r\n');
    w.pass(KEPT_TIMEOUT);
    expect(client.closed).toBe('abort');
    expect(w.ended[0]!.outcome).toBe('finished');
  });

  it('is told of a refusal, and then closed', () => {
    const w = world();
    const client = w.client('http', GET);
    answer(w, 'HTTP/1.1 204 No Content\r\n\r\n');
    client.received.length = 0;
    client.send('GET http://example.com/ HTTP/1.1\r\nHost: x\r\n\r\n');
    w.settle();
    expect(client.text()).toMatch(/^HTTP\/1\.1 403 /);
    expect(client.serverEnded).toBe(true);
  });
});

describe('an exchange that goes wrong', () => {
  it.each([
    ['is no HTTP', 'SSH-2.0-x\r\n\r\n'],
    ['has a length and chunks', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['has two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n'],
    ['has a bare line feed', 'HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\n'],
    ['switches protocols', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n'],
    ['has a head of any length', `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(4000)}`],
    ['ends in its head', 'HTTP/1.1 200 OK\r\n'],
  ])('is told when the answer %s', (_what, text) => {
    const w = world();
    const client = w.client('http', GET);
    answer(w, text);
    expect(client.text()).toMatch(/^HTTP\/1\.1 502 /);
    expect(w.ended.length + w.server.clients.size).toBe(1);
  });

  it.each([
    ['is cut off', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc'],
    ['has malformed chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'],
  ])('resets the client when an answer that has begun %s', (_what, text) => {
    const w = world();
    const client = w.client('http', GET);
    answer(w, text);
    expect(client.closed).toBe('abort');
    expect(w.ended[0]!.outcome).toBe('broken');
  });

  it('is told when the content of the request is malformed, and the service is reset', () => {
    const w = world();
    const client = w.client('http', `${POST('Transfer-Encoding: chunked')}5\nhello\r\n0\r\n\r\n`);
    expect(client.text()).toMatch(/^HTTP\/1\.1 502 [\s\S]*malformed chunks/);
    expect(w.service.closed).toBe('reset');
  });

  it('resets the service when the client goes', () => {
    const w = world();
    const ended = w.client('http', `${POST('Content-Length: 10')}012`);
    ended.clientEnded = true;
    w.settle();
    expect(w.service.closed).toBe('reset');
    const reset = w.client('http', GET);
    reset.clientReset = true;
    w.settle();
    expect(w.service.closed).toBe('reset');
    expect(w.network.agent.flows).toBe(0);
  });

  it('resets both when the service is not granted any more', () => {
    const w = world();
    const client = w.client('http', GET);
    w.server.endFlows((service) => service === 'web');
    w.settle();
    expect(client.closed).toBe('abort');
    expect(w.service.closed).toBe('reset');
  });
});
