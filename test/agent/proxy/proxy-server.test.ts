import { afterEach, describe, expect, it } from 'vitest';
import { LINGER } from '../../../src/agent/proxy/farewell.js';
import { parseForward } from '../../../src/agent/proxy/forward.js';
import {
  DIAL_TIMEOUT,
  NEGOTIATION_TIMEOUT,
  type ProxyConnection,
  type ProxyOutcome,
} from '../../../src/agent/proxy/proxy-connection.js';
import { MAX_CLIENTS, ProxyServer } from '../../../src/agent/proxy/proxy-server.js';
import { resolveTarget } from '../../../src/agent/proxy/resolve.js';
import { SocketAddress } from '../../../src/base/address.js';
import { type Duration, later, Micros, Millis } from '../../../src/base/time.js';
import { FakeKernel, type FakeListener, type FakeSocket } from './fake-kernel.js';
import { Network, type ServiceConnection } from './network.js';
import { subject, view } from './policy.js';

const at = (text: string): SocketAddress => SocketAddress.parse(text)!;
const GREETING = Uint8Array.of(5, 1, 0);
const socksTo = (name: string, port: number): Uint8Array =>
  Uint8Array.of(5, 1, 0, 3, name.length, ...Buffer.from(name), port >> 8, port & 255);
const CONNECT_DB = 'CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n';
const NOWHERE = { ok: false, failure: 'failed', detail: '' } as const;
const ESTABLISHED = 'HTTP/1.1 200 Connection established\r\n\r\n';

/** The proxy between clients in memory and a network in memory. */
class World {
  readonly kernel = new FakeKernel();
  readonly network: Network;
  readonly ended: { outcome: ProxyOutcome | undefined; client: ProxyConnection }[] = [];
  /** False: the stack opens nothing. */
  online = true;
  active = 0;
  readonly server: ProxyServer;

  constructor(sendBuffer?: number) {
    this.network = new Network(sendBuffer);
    this.server = new ProxyServer(
      {
        reactor: this.kernel,
        sockets: this.kernel,
        connect: (now, to, handlers) => (this.online ? this.network.agent.connect(now, to, handlers) : undefined),
        resolve: (host, port) => resolveTarget(host, port, view, subject()),
        onActivity: () => this.active++,
        onEnded: (client) => this.ended.push({ outcome: client.outcome, client }),
      },
      { socks: at('127.0.0.1:1080'), http: at('127.0.0.1:8118'), forwards: [parseForward('127.0.0.1:5432=db')] },
    );
  }

  listener(kind: 'socks' | 'http' | 'forward'): FakeListener {
    return this.kernel.listeners[['socks', 'http', 'forward'].indexOf(kind)]!;
  }

  /** A client that has been accepted; `bytes` are there already. */
  client(kind: 'socks' | 'http' | 'forward', bytes: Uint8Array | string = ''): FakeSocket {
    const socket = this.kernel.client(this.listener(kind));
    socket.send(bytes);
    this.settle();
    return socket;
  }

  /** Turns at the present time until nothing happens any more. */
  settle(): void {
    for (let turns = 0; turns < 1000; turns++) {
      const local = this.kernel.turn();
      const carried = this.network.turn(this.kernel.time);
      if (!local && !carried) return;
    }
    throw new Error('the loop does not come to rest');
  }

  /** Lets time pass in steps in which timers fire in their order. */
  pass(span: Duration): void {
    const end = later(this.kernel.time, span);
    while (this.kernel.time < end) {
      this.kernel.time = later(this.kernel.time, Millis(50));
      this.settle();
    }
  }

  get service(): ServiceConnection {
    return this.network.connections.at(-1)!;
  }

  /** A client that is bridged with the database. */
  bridged(): FakeSocket {
    const client = this.client('http', CONNECT_DB);
    expect(client.text()).toBe(ESTABLISHED);
    client.received.length = 0;
    return client;
  }
}

const worlds: World[] = [];
const world = (sendBuffer?: number): World => {
  const made = new World(sendBuffer);
  worlds.push(made);
  return made;
};

/** Whatever a test did: after `close` nothing of the proxy is left. */
afterEach(() => {
  for (const { server, kernel, network } of worlds.splice(0)) {
    server.close();
    expect(server.clients.size).toBe(0);
    expect(kernel.watched).toBe(0);
    expect(kernel.timersArmed).toBe(0);
    expect(kernel.listeners.every((listener) => listener.closed)).toBe(true);
    network.turn(kernel.time);
  }
});

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
      connect: () => undefined,
      resolve: () => NOWHERE,
      onActivity: () => {},
    };
    const forwards = ['[::1]:1=db', '0.0.0.0:2=db', '[::]:3=db', '127.9.9.9:4=db', '192.168.1.1:5=db'].map(
      parseForward,
    );
    const server = new ProxyServer(parts, { forwards });
    expect(server.listeners.map((listener) => listener.isExposed)).toEqual([false, true, true, false, true]);
    server.close();
  });

  it('are all closed again when one cannot be opened', () => {
    const w = world();
    const parts = {
      reactor: w.kernel,
      sockets: w.kernel,
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
