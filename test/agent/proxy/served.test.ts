import { afterEach, describe, expect, it } from 'vitest';
import { Millis } from '../../../src/base/time.js';

import { CONNECT_DB, closeWorlds, ESTABLISHED, GREETING, socksTo, world } from './world.js';

afterEach(closeWorlds);

describe('a client that is served', () => {
  it('is joined over SOCKS with the service it names, and told so only then', () => {
    const w = world();
    w.network.cut = true;
    const client = w.client('socks', Uint8Array.of(...GREETING, ...socksTo('db.acme.internal', 5432)));
    expect(client.received).toEqual([5, 0]);
    w.network.cut = false;
    w.pass(Millis(1500));
    const [local] = [...w.server.clients];
    expect(local!.state).toBe('bridged');
    expect(client.received.slice(2, 10)).toEqual([5, 0, 0, 1, 100, 64, 0, 2]);
    expect(client.received).toHaveLength(12);
    expect(w.service.to.toString()).toBe('10.100.0.1:5432');
    client.send('question');
    w.settle();
    w.service.send('answer');
    w.settle();
    expect(w.service.text()).toBe('question');
    expect(client.text().slice(12)).toBe('answer');
  });

  it('is joined over HTTP and through a forward', () => {
    const w = world();
    w.bridged();
    const client = w.client('forward', 'query');
    expect(w.service.to.toString()).toBe('10.100.0.1:5432');
    expect(w.service.text()).toBe('query');
    w.service.send('rows');
    w.settle();
    expect(client.text()).toBe('rows');
    expect(w.server.counters.snapshot()).toEqual({ http_clients: 1, forward_clients: 1, dials: 2, bridged: 2 });
  });

  it('loses nothing of what it sent together with its request', () => {
    const w = world();
    const early = 'x'.repeat(9000);
    const client = w.client('http', `${CONNECT_DB}${early}`);
    client.send('and more');
    w.settle();
    expect(w.service.text()).toBe(`${early}and more`);
    client.clientEnded = true;
    w.settle();
    w.service.connection.shutdownWrite();
    w.settle();
    expect(w.ended).toHaveLength(1);
    expect(w.ended[0]!.client.bytesOut).toBe(early.length + 8);
    expect(w.server.counters.get('bytes_out')).toBe(early.length + 8);
  });

  it('gets what a service says that speaks first and ends its stream at once, even with a slow answer', () => {
    const w = world();
    w.network.policy = 'accept and speak';
    const client = w.kernel.client(w.listener('http'));
    client.send(CONNECT_DB);
    client.room = 5;
    w.settle();
    expect(client.text()).toBe('HTTP/');
    client.room = Number.POSITIVE_INFINITY;
    w.settle();
    expect(client.text()).toBe(`${ESTABLISHED}hello and goodbye`);
    expect(client.serverEnded).toBe(true);
    expect(client.closed).toBeUndefined();
  });

  it('hears the end of a service that ends at once and says nothing, even with a slow answer', () => {
    const w = world();
    w.network.policy = 'accept and end';
    const client = w.kernel.client(w.listener('http'));
    client.send(CONNECT_DB);
    client.room = 5;
    w.settle();
    client.room = Number.POSITIVE_INFINITY;
    w.settle();
    expect(client.text()).toBe(ESTABLISHED);
    expect(client.serverEnded).toBe(true);
  });

  it('is joined only after its early bytes have found room', () => {
    const w = world(4096);
    const early = Array.from({ length: 3000 }, (_, i) => `${i}`.padStart(5, '.')).join('');
    const client = w.kernel.client(w.listener('http'));
    client.send(CONNECT_DB + early);
    for (let i = 0; i < 5; i++) w.kernel.turn();
    w.settle();
    w.pass(Millis(500));
    expect(w.service.text()).toBe(early);
    expect([...w.server.clients].map(({ state, bytesOut }) => ({ state, bytesOut }))).toEqual([
      { state: 'bridged', bytesOut: early.length },
    ]);
    expect(client.text()).toBe(ESTABLISHED);
  });

  it('keeps each direction open when the other ends', () => {
    const w = world();
    const client = w.bridged();
    client.send('all I have');
    client.clientEnded = true;
    w.settle();
    expect(w.service.peerClosed).toBe(true);
    expect(w.service.text()).toBe('all I have');
    expect(client.closed).toBeUndefined();
    w.service.send('still here');
    w.service.connection.shutdownWrite();
    w.settle();
    expect(client.text()).toBe('still here');
    expect(client.closed).toBe('close');
    expect(w.ended.map((end) => end.outcome)).toEqual(['finished']);
    expect(w.ended[0]!.client).toMatchObject({
      kind: 'http',
      asked: 'db:5432',
      service: 'db',
      bytesIn: 10,
      bytesOut: 10,
    });
  });

  it('loses nothing when the service ends first and the client says its last word into a pause of the network', () => {
    const w = world();
    const client = w.bridged();
    w.service.connection.shutdownWrite();
    w.settle();
    expect(client.serverEnded).toBe(true);
    w.network.cut = true;
    client.send('last word');
    client.clientEnded = true;
    w.settle();
    w.network.cut = false;
    w.pass(Millis(3000));
    expect(w.service.text()).toBe('last word');
    expect(w.ended.map((end) => end.outcome)).toEqual(['finished']);
  });

  it('loses nothing when both end while its last words are under way', () => {
    const w = world();
    const client = w.bridged();
    w.network.hold = true;
    client.send('last word');
    client.clientEnded = true;
    w.settle();
    w.service.connection.shutdownWrite();
    w.settle();
    w.network.hold = false;
    w.pass(Millis(3000));
    expect(w.service.text()).toBe('last word');
    expect(w.ended.map((end) => end.outcome)).toEqual(['finished']);
  });

  it('may end its stream right after its request', () => {
    const w = world();
    const client = w.kernel.client(w.listener('http'));
    client.send(`${CONNECT_DB}PING`);
    client.clientEnded = true;
    w.settle();
    expect(w.service.text()).toBe('PING');
    expect(w.service.peerClosed).toBe(true);
    w.service.send('PONG');
    w.settle();
    expect(client.text()).toBe(`${ESTABLISHED}PONG`);
  });

  it('is reset when the service resets, and the other way round', () => {
    const w = world();
    const first = w.bridged();
    w.service.connection.abort();
    w.settle();
    expect(first.closed).toBe('abort');
    const second = w.bridged();
    second.clientReset = true;
    w.settle();
    expect(w.service.closed).toBe('reset');
    expect(w.ended.map((end) => end.outcome)).toEqual(['broken', 'broken']);
  });

  it('is not read while the service does not take, and the service is told to stop while it does not read', () => {
    const w = world();
    const client = w.bridged();
    client.room = 100_000;
    w.service.connection.write(new Uint8Array(60_000), 0, 60_000);
    w.settle();
    w.service.connection.write(new Uint8Array(60_000), 0, 60_000);
    w.settle();
    expect(client.received).toHaveLength(100_000);
    client.room = Number.POSITIVE_INFINITY;
    w.settle();
    expect(client.received).toHaveLength(120_000);
  });
});
