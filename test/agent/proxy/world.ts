/** The proxy between clients in memory and a network in memory, in virtual time. */
import { expect } from 'vitest';
import { parseForward } from '../../../src/agent/proxy/forward.js';
import type { ProxyConnection, ProxyOutcome } from '../../../src/agent/proxy/proxy-connection.js';
import { ProxyServer } from '../../../src/agent/proxy/proxy-server.js';
import { resolveTarget } from '../../../src/agent/proxy/resolve.js';
import { SocketAddress } from '../../../src/base/address.js';
import { type Duration, later, Millis } from '../../../src/base/time.js';
import { FakeKernel, type FakeListener, type FakeSocket } from './fake-kernel.js';
import { Network, type ServiceConnection } from './network.js';
import { subject, view } from './policy.js';

export const at = (text: string): SocketAddress => SocketAddress.parse(text)!;
export const GREETING = Uint8Array.of(5, 1, 0);
export const socksTo = (name: string, port: number): Uint8Array =>
  Uint8Array.of(5, 1, 0, 3, name.length, ...Buffer.from(name), port >> 8, port & 255);
export const CONNECT_DB = 'CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n';
export const NOWHERE = { ok: false, failure: 'failed', detail: '' } as const;
export const ESTABLISHED = 'HTTP/1.1 200 Connection established\r\n\r\n';

/** The proxy between clients in memory and a network in memory. */
export class World {
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
        udp: this.network.udp,
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
export const world = (sendBuffer?: number): World => {
  const made = new World(sendBuffer);
  worlds.push(made);
  return made;
};

/** Closes every world made: whatever a test did, nothing of the proxy is left after `close`. */
export function closeWorlds(): void {
  for (const { server, kernel, network } of worlds.splice(0)) {
    server.close();
    expect(server.clients.size).toBe(0);
    expect(kernel.watched).toBe(0);
    expect(kernel.timersArmed).toBe(0);
    expect(kernel.listeners.every((listener) => listener.closed)).toBe(true);
    network.turn(kernel.time);
  }
}
