import { afterEach, describe, expect, it } from 'vitest';
import { LINGER } from '../../../src/agent/proxy/farewell.js';
import { DIAL_TIMEOUT, NEGOTIATION_TIMEOUT } from '../../../src/agent/proxy/proxy-connection.js';
import { type Duration, Millis } from '../../../src/base/time.js';

import { CONNECT_DB, closeWorlds, GREETING, socksTo, type World, world } from './world.js';

afterEach(closeWorlds);

describe('a client that is not served', () => {
  const answerTo = (w: World, name: string, port: number): { socks: number | undefined; http: string } => {
    const socks = w.client('socks', Uint8Array.of(...GREETING, ...socksTo(name, port)));
    const http = w.client('http', `CONNECT ${name.includes(':') ? `[${name}]` : name}:${port} HTTP/1.1\r\n\r\n`);
    w.pass(DIAL_TIMEOUT);
    w.pass(LINGER);
    expect(socks.serverEnded && http.serverEnded).toBe(true);
    return { socks: socks.received[3], http: http.text().slice(9, 12) };
  };

  it.each([
    ['anything outside the network', 'example.com', 443],
    ['a service that is not granted', 'secret', 5432],
    ['a port that is not granted', 'db', 1],
  ])('is refused %s', (_what, name, port) => {
    const w = world();
    expect(answerTo(w, name, port)).toEqual({ socks: 2, http: '403' });
    expect(w.server.counters.get('dials')).toBe(0);
    expect(w.server.counters.get('not_allowed')).toBe(2);
    expect(w.ended.every(({ client }) => client.detail !== '')).toBe(true);
  });

  it('hears that the service refused', () => {
    const w = world();
    w.network.policy = 'reset';
    expect(answerTo(w, 'db', 5432)).toEqual({ socks: 5, http: '502' });
    expect(w.server.counters.get('refused')).toBe(2);
  });

  it('hears that nobody answered', () => {
    const w = world();
    w.network.policy = 'ignore';
    expect(answerTo(w, 'db', 5432)).toEqual({ socks: 6, http: '504' });
    expect(w.server.counters.get('timeout')).toBe(2);
    expect(w.network.agent.flows).toBe(0);
  });

  it('hears that there is no way into the network', () => {
    const w = world();
    w.online = false;
    expect(answerTo(w, 'db', 5432)).toEqual({ socks: 3, http: '502' });
    expect(w.server.counters.get('net_unreachable')).toBe(2);
  });

  it('hears that the stack cannot open a connection', () => {
    const w = world();
    expect(answerTo(w, 'fd12:3456:789a::2', 443).socks).toBe(3);
    expect(w.ended[0]!.client.detail).toBe('the stack has no IPv6 address');
  });

  it('hears that the host is unreachable when the stack says so', () => {
    const w = world();
    w.network.cut = true;
    const client = w.client('socks', Uint8Array.of(...GREETING, ...socksTo('db', 5432)));
    const [local] = [...w.server.clients];
    local!.onClosed('unreachable');
    w.settle();
    expect(client.received[3]).toBe(4);
  });

  it('is reset when it came to a forward: it cannot be told otherwise', () => {
    const w = world();
    w.network.policy = 'reset';
    const client = w.client('forward', 'query');
    expect(client.closed).toBe('abort');
    expect(w.ended[0]!.outcome).toBe('refused');
  });

  it('may take its answer slowly, and is closed once it ends its stream', () => {
    const w = world();
    const client = w.kernel.client(w.listener('http'));
    client.send('CONNECT example.com:80 HTTP/1.1\r\n\r\nTLS and so on');
    client.room = 20;
    w.settle();
    expect(client.serverEnded).toBe(false);
    client.room = Number.POSITIVE_INFINITY;
    w.settle();
    expect(client.text()).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n[\s\S]*nothing else goes through this proxy\n$/);
    expect(client.serverEnded).toBe(true);
    expect(client.closed).toBeUndefined();
    client.send('still talking');
    w.settle();
    expect(client.unread).toBe(0);
    client.clientEnded = true;
    w.settle();
    expect(client.closed).toBe('close');
    expect(w.ended[0]!.outcome).toBe('not-allowed');
  });

  it('is closed after its answer when it neither reads nor ends, or never stops talking', () => {
    const w = world();
    const idle = w.client('http', 'GET / HTTP/1.1\r\n\r\n');
    const chatty = w.client('http', 'GET / HTTP/1.1\r\n\r\n');
    for (let i = 0; i < 10 && chatty.closed === undefined; i++) {
      chatty.send(new Uint8Array(16_000));
      w.settle();
    }
    expect(chatty.closed).toBe('close');
    expect(idle.closed).toBeUndefined();
    w.pass(LINGER);
    expect(idle.closed).toBe('abort');
    expect(w.server.counters.get('malformed')).toBe(2);
  });
});

describe('a client that does not keep to it', () => {
  it('is dropped when its request is not complete in time, however slowly it speaks', () => {
    const w = world();
    const client = w.client('socks', GREETING);
    for (let i = 0; i < 9; i++) {
      w.pass(Millis(1000));
      client.send(Uint8Array.of(5, 1, 0, 3, 200, 65, 65, 65, 65).subarray(i, i + 1));
    }
    w.settle();
    expect(client.closed).toBeUndefined();
    w.pass((NEGOTIATION_TIMEOUT - Millis(9000)) as Duration);
    expect(client.closed).toBe('abort');
    expect(w.ended[0]!.outcome).toBe('silent');
  });

  it.each(['clientEnded', 'clientReset'] as const)('is forgotten when it goes before its request (%s)', (how) => {
    const w = world();
    const client = w.client('http', 'CONNECT db');
    client[how] = true;
    w.settle();
    expect(client.closed).toBe('abort');
    expect(w.ended[0]!.outcome).toBe('abandoned');
  });

  it('ends its dial when it resets while waiting', () => {
    const w = world();
    w.network.policy = 'ignore';
    const client = w.client('http', CONNECT_DB);
    expect(w.network.agent.flows).toBe(1);
    client.clientReset = true;
    w.settle();
    expect(w.network.agent.flows).toBe(0);
    expect(w.ended[0]!.outcome).toBe('abandoned');
  });

  it('is not read beyond its first bytes while it waits', () => {
    const w = world();
    w.network.policy = 'ignore';
    const client = w.client('http', CONNECT_DB);
    client.send(new Uint8Array(50_000));
    w.settle();
    expect(client.unread).toBe(50_000);
  });
});
