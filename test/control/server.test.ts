/** The control listener towards strangers: limits, errors as JSON, and a prompt end. */
import { type RequestOptions, request } from 'node:https';
import { connect } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { instantAt } from '../../src/base/time.js';
import { SourceLimits } from '../../src/control/source-limits.js';
import { eachTest, network } from './network.js';

eachTest();

interface Answer {
  readonly status: number;
  readonly body: { error?: { code: string; message: string }; status?: string };
}

function ask(method: string, path: string, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options: RequestOptions = {
      method,
      agent: false,
      ca: [network.folder.caPem],
      servername: 'relay.relay.acme',
    };
    const outgoing = request(`https://127.0.0.1:${network.port}${path}`, options, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      answer.on('end', () => resolve({ status: answer.statusCode!, body: JSON.parse(text) as Answer['body'] }));
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

describe('control server', () => {
  it('tells its health', async () => {
    expect(await ask('GET', '/healthz')).toEqual({ status: 200, body: { status: 'ok' } });
  });

  it.each([
    ['GET', '/', undefined, 404, 'NOT_FOUND'],
    ['GET', '/api/v1/enrol', undefined, 405, 'METHOD'],
    ['POST', '/api/v1/enrol', '', 400, 'REQUEST_MALFORMED'],
    ['POST', '/api/v1/enrol', '{}', 400, 'REQUEST_MALFORMED'],
    ['POST', '/api/v1/enrol', '{"proof":1,"csr":"x"}', 400, 'CSR_MALFORMED'],
    ['POST', '/api/v1/renew', '{"kind":"renew","payload":"e30=","signature":""}', 400, 'RENEWAL_MALFORMED'],
    ['POST', '/api/v1/renew', '[]', 400, 'REQUEST_MALFORMED'],
    ['POST', '/api/v1/enrol', `"${'x'.repeat(70_000)}"`, 413, 'TOO_LARGE'],
  ])('%s %s answers an error', async (method, path, body, status, code) => {
    const answer = await ask(method, path, body);
    expect(answer).toEqual({ status, body: { error: { code, message: expect.any(String) } } });
  });

  it('limits the requests of one source, and forgives with time', async () => {
    const codes = async (n: number): Promise<number[]> => {
      const answers: number[] = [];
      for (let i = 0; i < n; i++) answers.push((await ask('POST', '/api/v1/enrol', '{}')).status);
      return answers;
    };
    expect(await codes(22)).toEqual([...Array<number>(20).fill(400), 429, 429]);
    network.clock.advance(1_000);
    expect(await codes(3)).toEqual([400, 400, 429]);
    expect((await ask('GET', '/healthz')).status).toBe(200);
  });

  it('ends although a connection stays open and another is half a request', async () => {
    const options = {
      port: network.port,
      host: '127.0.0.1',
      ca: [network.folder.caPem],
      servername: 'relay.relay.acme',
    };
    const open = await Promise.all(
      ['', 'POST /api/v1/enrol HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{'].map(
        (text) =>
          new Promise<ReturnType<typeof connect>>((resolve, reject) => {
            const socket = connect(options, () => resolve(socket));
            socket.on('error', reject).write(text);
          }),
      ),
    );
    const ended = open.map(
      (socket) =>
        new Promise((resolve) => socket.removeAllListeners('error').on('error', resolve).on('close', resolve)),
    );
    await network.server.stop();
    await network.server.stop();
    await Promise.all(ended);
    await expect(ask('GET', '/healthz')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('says so when the port is taken', async () => {
    await expect(network.serve()).rejects.toMatchObject({ code: 'LISTEN_FAILED', kind: 'environment' });
  });
});

describe('SourceLimits', () => {
  it('counts an IPv6 /64 as one source and keeps bounded memory', () => {
    const limits = new SourceLimits();
    const now = instantAt(0);
    const taken = (source: string): boolean => limits.take(now, source);
    for (let i = 0; i < 20; i++) expect(taken(`2001:db8::${i.toString(16)}`)).toBe(true);
    expect(taken('2001:db8::ffff')).toBe(false);
    expect(taken('2001:db8:0:1::1')).toBe(true);
    expect(taken('::ffff:192.0.2.1')).toBe(true);
    for (let i = 0; i < 4096; i++) taken(`10.0.${i >> 8}.${i & 255}`);
    // Forgotten, as the source heard longest ago.
    expect(taken('2001:db8::ffff')).toBe(true);
  });
});
