import { afterEach, describe, expect, it } from 'vitest';
import { ProxyAccess } from '../../../src/agent/proxy/access.js';
import { parseForward } from '../../../src/agent/proxy/forward.js';
import { MAX_CLIENTS, ProxyServer } from '../../../src/agent/proxy/proxy-server.js';
import { Prefix } from '../../../src/base/address.js';
import { Micros, Millis } from '../../../src/base/time.js';

import type { FakeSocket } from './fake-kernel.js';
import { at, CONNECT_DB, closeWorlds, ESTABLISHED, GREETING, NOWHERE, world } from './world.js';

afterEach(closeWorlds);

describe('listeners', () => {
  it('tell where they are and whether others may reach them', () => {
    const w = world();
    expect(w.server.listeners.map(({ kind, local }) => `${kind} ${local}`)).toEqual([
      'socks 127.0.0.1:1080',
      'http 127.0.0.1:8118',
      'forward 127.0.0.1:5432',
    ]);
    const parts = {
      reactor: w.kernel,
      sockets: w.kernel,
      udp: w.network.udp,
      connect: () => undefined,
      resolve: () => NOWHERE,
      onActivity: () => {},
    };
    const forwards = ['[::1]:1=db', '0.0.0.0:2=db', '[::]:3=db', '127.9.9.9:4=db', '192.168.1.1:5=db'].map(
      parseForward,
    );
    const access = new ProxyAccess([Prefix.parse('192.168.0.0/16')!]);
    const server = new ProxyServer(parts, { forwards }, access);
    expect(server.listeners.map((listener) => listener.isExposed)).toEqual([false, true, true, false, true]);
    server.close();
  });

  it('are all closed again when one cannot be opened', () => {
    const w = world();
    const parts = {
      reactor: w.kernel,
      sockets: w.kernel,
      udp: w.network.udp,
      connect: () => undefined,
      resolve: () => NOWHERE,
      onActivity: () => {},
    };
    const watched = w.kernel.watched;
    expect(() => new ProxyServer(parts, { socks: at('127.0.0.1:7'), http: at('127.0.0.1:1080') })).toThrow(
      expect.objectContaining({ code: 'ADDRESS_IN_USE' }),
    );
    expect(w.kernel.watched).toBe(watched);
    expect(w.kernel.listeners.filter((listener) => !listener.closed)).toHaveLength(3);
  });

  it('let in so many clients at once and no more, and count the others', () => {
    const w = world();
    const clients = Array.from({ length: MAX_CLIENTS + 5 }, () => w.kernel.client(w.listener('socks')));
    w.settle();
    expect(w.server.clients.size).toBe(MAX_CLIENTS);
    expect(clients.filter((client) => client.closed === 'abort')).toHaveLength(5);
    expect(w.server.counters.get('clients_over_limit')).toBe(5);
    clients[0]!.clientReset = true;
    w.settle();
    w.client('http', CONNECT_DB);
    expect(w.network.connections).toHaveLength(1);
  });

  it('take a bounded number in one turn', () => {
    const w = world();
    for (let i = 0; i < 200; i++) w.kernel.client(w.listener('socks'));
    w.kernel.turn();
    expect(w.server.clients.size).toBe(64);
    w.settle();
    expect(w.server.clients.size).toBe(200);
  });

  it('rest a while when they are readable and give nothing', () => {
    const w = world();
    const listener = w.listener('socks');
    listener.exhausted = true;
    w.settle();
    expect(listener.accepts).toBe(1);
    w.pass(Millis(1000));
    expect(listener.accepts).toBeLessThanOrEqual(11);
    expect(listener.accepts).toBeGreaterThan(5);
    listener.exhausted = false;
    w.pass(Millis(100));
    expect(w.client('socks', GREETING).received).toEqual([5, 0]);
  });

  it('are closed at `stopListening` while clients stay, and everything at `close`', () => {
    const w = world();
    const bridged = w.bridged();
    w.network.policy = 'ignore';
    const dialling = w.client('http', CONNECT_DB);
    const refused = w.client('http', 'GET / HTTP/1.1\r\n\r\n');
    const reading = w.client('socks', GREETING);
    w.server.stopListening();
    expect(w.server.clients.size).toBe(4);
    bridged.send('more');
    w.settle();
    expect(w.network.connections[0]!.text()).toBe('more');
    w.server.close();
    w.settle();
    expect([bridged, dialling, refused, reading].map((client) => client.closed)).toEqual(Array(4).fill('abort'));
    expect(w.network.connections[0]!.closed).toBe('reset');
    expect(w.ended).toHaveLength(4);
    expect(w.active).toBeGreaterThan(0);
  });
});

describe('a visit', () => {
  it('is counted once, whatever its end', () => {
    const w = world();
    w.client('socks', 'GET');
    w.client('http', CONNECT_DB).clientReset = true;
    w.settle();
    w.network.policy = 'reset';
    w.client('http', CONNECT_DB).clientEnded = true;
    w.settle();
    w.pass(Micros(1));
    const counts = w.server.counters.snapshot();
    expect(counts).toMatchObject({ malformed: 1, broken: 1, refused: 1 });
    expect(w.ended).toHaveLength(3);
  });
});

describe('who may use the listeners', () => {
  it('has to be said before other machines reach one', () => {
    const w = world();
    for (const listeners of [
      { socks: at('0.0.0.0:1') },
      { http: at('[::]:1') },
      { forwards: [parseForward('192.168.1.1:1=db')] },
      { forwards: [parseForward('udp://192.168.1.1:1=names')] },
    ]) {
      expect(() => w.server.reconfigure(listeners, new ProxyAccess())).toThrow(
        expect.objectContaining({ code: 'PROXY_EXPOSED', kind: 'caller' }),
      );
    }
    expect(w.server.listeners).toHaveLength(3);
  });

  it('are this machine and those who are allowed', () => {
    const w = world();
    const access = new ProxyAccess([Prefix.parse('192.168.1.0/24')!, Prefix.parse('fd00::/8')!]);
    w.server.reconfigure({ socks: at('0.0.0.0:1080') }, access);
    const from = (peer: string): FakeSocket => {
      w.kernel.peer = at(peer);
      const client = w.kernel.client(w.kernel.listeners.at(-1)!);
      client.send(GREETING);
      w.settle();
      return client;
    };
    expect(from('192.168.1.7:9').received).toEqual([5, 0]);
    expect(from('127.0.0.1:9').received).toEqual([5, 0]);
    expect(from('192.168.2.7:9').closed).toBe('abort');
    expect(from('[fe80::1]:9').closed).toBe('abort');
    expect(w.server.counters.get('clients_not_allowed')).toBe(2);
    w.server.reconfigure({ socks: at('0.0.0.0:1080') }, new ProxyAccess([Prefix.parse('10.0.0.0/8')!]));
    expect(w.server.clients.size).toBe(1);
  });
});

describe('other listeners', () => {
  it('take the place of the present ones; those in both stay open, and so do clients', () => {
    const w = world();
    const bridged = w.bridged();
    const [socks, http, forward] = w.kernel.listeners;
    w.server.reconfigure(
      { socks: at('127.0.0.1:1080'), forwards: ['127.0.0.1:5432=web:80', '127.0.0.1:9=db'].map(parseForward) },
      new ProxyAccess(),
    );
    expect([socks!.closed, http!.closed, forward!.closed]).toEqual([false, true, false]);
    expect(w.server.listeners.map(({ kind, local }) => `${kind} ${local}`)).toEqual([
      'socks 127.0.0.1:1080',
      'forward 127.0.0.1:5432',
      'forward 127.0.0.1:9',
    ]);
    expect(bridged.closed).toBeUndefined();
    w.client('forward', 'x');
    expect(w.service.to.toString()).toBe('10.100.0.2:80');
  });

  it('may change what a port is for', () => {
    const w = world();
    w.server.reconfigure({ http: at('127.0.0.1:1080') }, new ProxyAccess());
    expect(w.client('socks', CONNECT_DB).text()).toBe(ESTABLISHED);
  });

  it('that cannot all be opened change nothing', () => {
    const w = world();
    w.kernel.listen(at('127.0.0.1:7'));
    const next = { socks: at('127.0.0.1:6'), http: at('127.0.0.1:7') };
    expect(() => w.server.reconfigure(next, new ProxyAccess())).toThrow(
      expect.objectContaining({ code: 'ADDRESS_IN_USE' }),
    );
    expect(w.server.listeners).toHaveLength(3);
    expect(w.client('socks', GREETING).received).toEqual([5, 0]);
    for (const listener of w.kernel.listeners) if (listener.local.port === 7) listener.close();
  });
});

describe('a UDP association that cannot be opened', () => {
  it('is refused and counted', () => {
    const w = world();
    const client = w.client('socks', Uint8Array.of(...GREETING, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0));
    expect(client.received.slice(0, 4)).toEqual([5, 0, 5, 1]);
    expect(w.server.udpCounters.get('udp_associations_refused')).toBe(1);
    expect(w.network.udp.size).toBe(0);
    client.clientEnded = true;
    w.settle();
    expect(w.server.counters.get('failed')).toBe(1);
  });
});
