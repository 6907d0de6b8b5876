import { afterEach, describe, expect, it } from 'vitest';
import { ProxyAccess } from '../../../src/agent/proxy/access.js';
import { parseForward } from '../../../src/agent/proxy/forward.js';
import { MAX_CLIENTS, ProxyServer } from '../../../src/agent/proxy/proxy-server.js';
import { Prefix } from '../../../src/base/address.js';
import { Micros, Millis } from '../../../src/base/time.js';

import { at, CONNECT_DB, closeWorlds, GREETING, NOWHERE, world } from './world.js';

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
