import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Seconds } from '../../../src/base/time.js';
import type { DnsAnswer } from '../../../src/engine/dns/answer.js';
import { HttpReply } from '../../../src/engine/dns/http-reply.js';
import { Resolver } from '../../../src/engine/dns/resolver.js';
import { formatDnsServer, parseDnsServer } from '../../../src/engine/dns/upstream.js';
import { a, DnsWorld, read, reply, texts } from './world.js';

const bytes = (text: string) => Uint8Array.from(Buffer.from(text, 'latin1'));

describe('HttpReply', () => {
  const feedAll = (text: string, size: number) => {
    const http = new HttpReply();
    const all = bytes(text);
    let progress: string = 'more';
    for (let at = 0; at < all.length; at += size) progress = http.feed(all, at, Math.min(size, all.length - at));
    return {
      progress,
      status: http.status,
      body: Buffer.from(http.body).toString('latin1'),
      keepAlive: http.keepAlive,
    };
  };

  it.each([1, 3, 10_000])('reads bodies of known length and in chunks, %i bytes at a time', (size) => {
    const done = { progress: 'done', status: 200, body: 'hello', keepAlive: true };
    expect(feedAll('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', size)).toEqual(done);
    expect(
      feedAll('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 \r\ncontent-length:5\r\nX: y\r\n\r\nhello', size),
    ).toEqual(done);
    expect(
      feedAll('HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n', size),
    ).toEqual(done);
    expect(feedAll('HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n', size)).toMatchObject({
      progress: 'done',
      status: 503,
      keepAlive: false,
    });
    expect(feedAll('HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx', size)).toMatchObject({ keepAlive: false });
  });

  it('refuses what two readers could read in two ways, and what is too long', () => {
    const heads = [
      'HTTP/1.1 200 OK\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n',
      'HTTP/2 200\r\nContent-Length: 1\r\n\r\n',
      'HTTP/1.1 200 OK\r\n folded\r\nContent-Length: 1\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy',
      `HTTP/1.1 200 OK\r\nX: ${'y'.repeat(17_000)}`,
    ];
    for (const head of heads) expect(feedAll(head, 7).progress).toBe('bad');
    fc.assert(fc.property(fc.string(), (text) => ['more', 'bad'].includes(feedAll(text, 5).progress)));
  });
});

describe('DNS over HTTPS', () => {
  const start = () => {
    const world = new DnsWorld();
    const requests: string[] = [];
    let answer = (body: Uint8Array): Uint8Array =>
      Buffer.concat([bytes(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`), body]);
    world.streams.set('10.0.0.53:443', (request, send) => {
      const text = Buffer.from(request).toString('latin1');
      requests.push(text.slice(0, text.indexOf('\r\n\r\n')));
      const message = request.slice(text.indexOf('\r\n\r\n') + 4);
      const query = read(message);
      const question = query.questions![0]!;
      send(
        answer(
          reply(
            { via: 'tls', bytes: message, query, question, name: question.name },
            { answers: [a(question.name, '10.1.1.1')] },
          ),
        ),
      );
    });
    const resolver = new Resolver({
      dialer: world.dialer,
      timers: world,
      entropy: world.entropy,
      counters: world.counters,
      servers: [parseDnsServer('https://10.0.0.53/query#dns.example')],
    });
    const ask = (name: string): DnsAnswer[] => {
      const answers: DnsAnswer[] = [];
      resolver.query({ name, type: 1, dnssec: false, checkingDisabled: false }, (result) => answers.push(result));
      return answers;
    };
    return { world, requests, ask, setAnswer: (next: typeof answer) => (answer = next), resolver };
  };

  it('posts one question after the other on one connection, with id 0', () => {
    const { world, requests, ask } = start();
    const answers = ['a.example', 'b.example', 'c.example'].map(ask);
    world.run(Seconds(2));
    expect(answers.map((list) => texts(list[0]!.addresses))).toEqual([['10.1.1.1'], ['10.1.1.1'], ['10.1.1.1']]);
    expect(world.opened).toEqual(['tls dns.example http/1.1 10.0.0.53:443']);
    expect(requests[0]).toMatch(/^POST \/query HTTP\/1\.1\r\nhost: dns\.example\r\n/);
    expect(requests).toHaveLength(3);
    world.run(Seconds(31));
    expect([world.openSockets, world.timersArmed]).toEqual([0, 0]);
  });

  it('fails on statuses, other questions and garbage, and dials anew after them', () => {
    const { world, ask, setAnswer } = start();
    const broken = [
      (body: Uint8Array) => Buffer.concat([bytes(`HTTP/1.1 500 No\r\nContent-Length: ${body.length}\r\n\r\n`), body]),
      () => bytes('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc'),
      () => bytes('SSH-2.0-x\r\n\r\n'),
      () => bytes('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'),
    ];
    for (const [i, answer] of broken.entries()) {
      setAnswer(answer);
      const answers = ask(`n${i}.example`);
      world.run(Seconds(12));
      expect(answers).toMatchObject([{ rcode: 2 }]);
    }
    expect(world.counters.get('dns_malformed')).toBe(3 * 4);
    world.run(Seconds(40));
    expect([world.openSockets, world.timersArmed]).toEqual([0, 0]);
  });

  it('lets go of questions when it closes', () => {
    const { world, ask, resolver } = start();
    const answers = ['a.example', 'b.example'].map(ask);
    resolver.close();
    world.run();
    expect(answers.map((list) => list.length)).toEqual([1, 1]);
    expect([world.openSockets, world.timersArmed]).toEqual([0, 0]);
  });
});

describe('parseDnsServer', () => {
  it('reads every form and writes it back', () => {
    const forms = {
      '10.0.0.53': 'udp://10.0.0.53:53',
      'fd00::53': 'udp://[fd00::53]:53',
      '[fd00::53]:5353': 'udp://[fd00::53]:5353',
      'tcp://10.0.0.53': 'tcp://10.0.0.53:53',
      'tls://10.0.0.53#dns.example': 'tls://10.0.0.53:853#dns.example',
      'tls://[fd00::53]': 'tls://[fd00::53]:853',
      'https://10.0.0.53:8443/q?x=1#dns.example': 'https://10.0.0.53:8443/q?x=1#dns.example',
      'https://10.0.0.53': 'https://10.0.0.53:443/dns-query',
    };
    for (const [text, full] of Object.entries(forms)) {
      expect(formatDnsServer(parseDnsServer(text))).toBe(full);
      expect(formatDnsServer(parseDnsServer(full))).toBe(full);
    }
  });

  it('refuses names, paths and server names where they say nothing, and bad ports', () => {
    const bad = [
      '',
      'dns.example',
      'https://dns.example/dns-query',
      '10.0.0.53:0',
      '10.0.0.53:65536',
      'udp://10.0.0.53/x',
      '10.0.0.53#dns.example',
      'tls://10.0.0.53#-',
      'quic://10.0.0.53',
      'https://10.0.0.53/a b',
    ];
    for (const text of bad)
      expect(() => parseDnsServer(text)).toThrow(expect.objectContaining({ code: 'DNS_SERVER', kind: 'caller' }));
  });
});
