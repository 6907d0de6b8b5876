/** UDP through the proxy, with the real reactor and real sockets on loopback; its clients are Node's. */
import { createSocket, type Socket as Datagrams } from 'node:dgram';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ProxyAccess } from '../../../src/agent/proxy/access.js';
import { parseForward } from '../../../src/agent/proxy/forward.js';
import { MAX_ASSOCIATIONS, ProxyServer } from '../../../src/agent/proxy/proxy-server.js';
import { resolveTarget } from '../../../src/agent/proxy/resolve.js';
import { MAX_TARGETS } from '../../../src/agent/proxy/udp-association.js';
import { MAX_UDP_PORTS } from '../../../src/agent/udp-ports.js';
import { IpAddress, Prefix, SocketAddress } from '../../../src/base/address.js';
import { createLinuxSockets, createReactor } from '../../../src/os/linux/linux.js';
import type { EpollReactor } from '../../../src/os/linux/reactor.js';
import type { PolicyView } from '../../../src/policy/view.js';
import { Network } from './network.js';
import { subject, view } from './policy.js';

const at = (text: string): SocketAddress => SocketAddress.parse(text)!;

/** A datagram to a target as a SOCKS client writes it. */
const toName = (name: string, port: number, data: string): Buffer =>
  Buffer.from([0, 0, 0, 3, name.length, ...Buffer.from(name), port >> 8, port & 255, ...Buffer.from(data, 'latin1')]);
const toAddress = (ip: string, port: number, data: string): Buffer => {
  const bytes = IpAddress.parse(ip)!.toBytes();
  return Buffer.from([0, 0, 0, bytes.length === 4 ? 1 : 4, ...bytes, port >> 8, port & 255, ...Buffer.from(data)]);
};
const NAMES = [10, 100, 0, 3, 0, 53];

describe.runIf(process.platform === 'linux')('UDP through the proxy', () => {
  let reactor: EpollReactor;
  let network: Network;
  let server: ProxyServer;
  let running: Promise<void>;
  let policy: PolicyView | undefined;
  const errors: unknown[] = [];
  const sockets: Datagrams[] = [];
  const controls: Socket[] = [];

  const start = (listeners: ConstructorParameters<typeof ProxyServer>[1], access = new ProxyAccess()): void => {
    server = new ProxyServer(
      {
        reactor,
        sockets: createLinuxSockets(),
        udp: network.udp,
        connect: (now, to, handlers) => network.agent.connect(now, to, handlers),
        resolve: (host, port, protocol) =>
          policy === undefined
            ? { ok: false, failure: 'failed', detail: '' }
            : resolveTarget(host, port, policy, subject(), policy.accessFor(subject()), protocol),
        onActivity: () => {},
      },
      listeners,
      access,
    );
    reactor.onTurn((now) => {
      network.turn(now);
      server.flush();
      return network.nextTimeout();
    });
    running = reactor.run();
  };

  beforeEach(() => {
    policy = view;
    reactor = createReactor({ onError: (error) => errors.push(error) });
    network = new Network(undefined, true);
  });

  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.close();
    for (const socket of controls.splice(0)) socket.destroy();
    server.close();
    expect(network.udp.size).toBe(0);
    reactor.stop();
    await running;
    expect(errors.splice(0)).toEqual([]);
  });

  const datagrams = async (address = '127.0.0.1'): Promise<Datagrams> => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    sockets.push(socket);
    socket.bind(0, address);
    await once(socket, 'listening');
    return socket;
  };
  /** The next datagram that comes. */
  const next = async (socket: Datagrams): Promise<Buffer> => (await once(socket, 'message'))[0] as Buffer;

  /** Asks for an association; resolves to its control connection and where to send to. */
  const associate = async (declared = at('0.0.0.0:0')): Promise<{ control: Socket; port: number; address: string }> => {
    const { local } = server.listeners[0]!;
    const control = connect({ port: local.port, host: local.ip.toString() });
    controls.push(control);
    control.on('error', () => {});
    const ip = declared.ip.toBytes();
    control.write(
      Buffer.from([5, 1, 0, 5, 3, 0, ip.length === 4 ? 1 : 4, ...ip, declared.port >> 8, declared.port & 255]),
    );
    let reply = Buffer.alloc(0);
    while (reply.length < 2 + (local.ip.isV4 ? 10 : 22)) {
      reply = Buffer.concat([reply, (await once(control, 'data'))[0] as Buffer]);
    }
    expect([...reply.subarray(0, 4)]).toEqual([5, 0, 5, 0]);
    const length = local.ip.isV4 ? 4 : 16;
    const address = IpAddress.fromBytes(reply, 6, length).toString();
    return { control, address, port: reply.readUInt16BE(6 + length) };
  };
  const count = (name: Parameters<typeof server.udpCounters.get>[0]): number => server.udpCounters.get(name);
  /** Sends a datagram that is answered, so that everything sent before it has been dealt with. */
  const roundTrip = async (socket: Datagrams, port: number, address = '127.0.0.1'): Promise<string> => {
    const answer = next(socket);
    socket.send(toName('names', 53, 'are you there'), port, address);
    return (await answer).toString('latin1');
  };

  describe('associations', () => {
    it('carry datagrams to names and addresses, and answers back with whom they are from', async () => {
      start({ socks: at('127.0.0.1:0') });
      const { port, address } = await associate();
      expect(address).toBe('127.0.0.1');
      const client = await datagrams();
      for (const request of [
        toName('names', 53, 'query'),
        toName('names.acme.internal.', 53, 'query'),
        toAddress('10.100.0.3', 53, 'query'),
      ]) {
        const answer = next(client);
        client.send(request, port);
        expect([...(await answer)]).toEqual([0, 0, 0, 1, ...NAMES, ...Buffer.from('QUERY')]);
      }
      expect(new Set(network.datagrams.map(({ from }) => from)).size).toBe(1);
      expect(network.datagrams[0]).toMatchObject({ to: '10.100.0.3:53', text: 'query' });
      expect(server.udpCounters.snapshot()).toMatchObject({ udp_associations: 1, udp_flows: 3, udp_in: 3, udp_out: 3 });
    });

    it('carry IPv6 on both sides', async () => {
      start({ socks: at('[::1]:0') });
      const { port, address } = await associate(at('[::]:0'));
      expect(address).toBe('::1');
      const client = await datagrams('::1');
      const answer = next(client);
      client.send(toAddress('fd12:3456:789a::3', 53, 'six'), port, '::1');
      const header = [0, 0, 0, 4, ...IpAddress.parse('fd12:3456:789a::3')!.toBytes(), 0, 53];
      expect([...(await answer)]).toEqual([...header, ...Buffer.from('SIX')]);
      expect(network.datagrams[0]!.from).toMatch(/^\[fd12:3456:789a::9\]:\d+$/);
    });

    it('carry empty datagrams and ones of many packets', async () => {
      start({ socks: at('127.0.0.1:0') });
      const { port } = await associate();
      const client = await datagrams();
      for (const data of ['', 'x'.repeat(60_000)]) {
        const answer = next(client);
        client.send(toName('names', 53, data), port);
        expect((await answer).subarray(10).toString('latin1')).toBe(data.toUpperCase());
      }
    });

    it('end with their control connection', async () => {
      start({ socks: at('127.0.0.1:0') });
      const { control } = await associate();
      expect(network.udp.size).toBe(1);
      const closed = once(control, 'close');
      control.end();
      await closed;
      expect(network.udp.size).toBe(0);
      expect(server.clients.size).toBe(0);
      expect(server.counters.get('finished')).toBe(1);
    });

    it('take no fragments, no malformed headers, nothing that is not granted, and count each', async () => {
      start({ socks: at('127.0.0.1:0') });
      const { port } = await associate();
      const client = await datagrams();
      const whole = toName('names', 53, 'x');
      const fragment = Buffer.from(whole);
      fragment[2] = 1;
      const last = Buffer.from(whole);
      last[2] = 0x81;
      for (const one of [fragment, last]) client.send(one, port);
      const reserved = Buffer.from(whole);
      reserved[0] = 1;
      const malformed = [reserved, whole.subarray(0, 9), Buffer.of(0, 0, 0, 2, 1, 2, 3, 4, 0, 53), Buffer.alloc(0)];
      for (const one of [...malformed, toName('a b', 53, 'x'), toName('', 53, 'x')]) client.send(one, port);
      const forbidden: [string, number][] = [
        ['example.com', 53],
        ['secret', 5432],
        ['names', 54],
        ['db', 5432],
        ['example.com', 53],
      ];
      for (const [name, to] of forbidden) client.send(toName(name, to, 'x'), port);
      await roundTrip(client, port);
      expect(server.udpCounters.snapshot()).toMatchObject({
        udp_fragments: 2,
        udp_malformed: 6,
        udp_not_allowed: 5,
        udp_out: 1,
      });
      expect(network.datagrams).toHaveLength(1);
    });

    it('serve the port of the first datagram, or the one that was named, and no other', async () => {
      start({ socks: at('127.0.0.1:0') });
      const { port } = await associate();
      const [client, other] = [await datagrams(), await datagrams()];
      await roundTrip(client, port);
      other.send(toName('names', 53, 'mine'), port);
      await roundTrip(client, port);
      const named = await associate(at(`127.0.0.1:${client.address().port}`));
      other.send(toName('names', 53, 'mine'), named.port);
      await roundTrip(client, named.port);
      expect(count('udp_foreign')).toBe(2);
      expect(network.datagrams.filter(({ text }) => text === 'mine')).toEqual([]);
    });

    it('serve no other address, whatever the client names', async () => {
      start({ socks: at('127.0.0.1:0') });
      const { port } = await associate(at('127.0.0.9:7'));
      const [client, other] = [await datagrams(), await datagrams('127.0.0.9')];
      other.send(toName('names', 53, 'mine'), port);
      await roundTrip(client, port);
      expect(count('udp_foreign')).toBe(1);
    });

    it('let nobody answer to whom nothing was sent', async () => {
      start({ socks: at('127.0.0.1:0') });
      const { port } = await associate();
      const client = await datagrams();
      await roundTrip(client, port);
      const from = at(network.datagrams[0]!.from);
      for (const stranger of ['10.100.0.4:53', '10.100.0.3:54']) {
        const words = new Uint32Array(10);
        at(stranger).write(words, 0);
        from.write(words, 1);
        network.connector.sendUdp(reactor.now(), words, 0, 1, Buffer.from('evil'), 0, 4);
      }
      expect(await roundTrip(client, port)).toContain('ARE YOU THERE');
      expect(count('udp_dropped')).toBe(2);
    });

    it('keep a bounded number of targets', async () => {
      start({ socks: at('127.0.0.1:0') });
      const { port } = await associate();
      const client = await datagrams();
      await roundTrip(client, port);
      // Ports without an answer, so that the one answer below is the last datagram's.
      for (let i = 0; i < MAX_TARGETS + 2; i++) client.send(toName('names', 100 + i, 'x'), port);
      await roundTrip(client, port);
      // One place is taken by the target that is answered.
      expect(count('udp_flows_over_limit')).toBe(3);
    });

    it('are so many at once and no more', async () => {
      start({ socks: at('127.0.0.1:0') });
      await Promise.all(Array.from({ length: MAX_ASSOCIATIONS }, () => associate()));
      const { local } = server.listeners[0]!;
      const one = connect({ port: local.port, host: '127.0.0.1' });
      controls.push(one);
      one.write(Buffer.from([5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0]));
      let reply = Buffer.alloc(0);
      while (reply.length < 12) reply = Buffer.concat([reply, (await once(one, 'data'))[0] as Buffer]);
      expect(reply[3]).toBe(1);
      expect(count('udp_associations_refused')).toBe(1);
      expect(network.udp.size).toBe(MAX_ASSOCIATIONS);
    });

    it('ask again what they may reach when the policy changes', async () => {
      start({ socks: at('127.0.0.1:0') });
      const { port } = await associate();
      const client = await datagrams();
      await roundTrip(client, port);
      policy = undefined;
      server.endFlows(() => false);
      client.send(toName('names', 53, 'mine'), port);
      client.send(toName('names', 53, 'mine'), port);
      policy = undefined;
      await expect.poll(() => count('udp_not_allowed')).toBe(2);
      expect(network.datagrams).toHaveLength(1);
      policy = view;
      server.endFlows(() => false);
      await roundTrip(client, port);
    });
  });

  describe('forwards', () => {
    const forward = (text = 'udp://127.0.0.1:0=names'): void => start({ forwards: [parseForward(text)] });
    const place = (): number => server.listeners[0]!.local.port;

    it('carry datagrams of several clients, each to its own', async () => {
      forward();
      expect(server.listeners[0]).toMatchObject({ kind: 'udp-forward', isExposed: false });
      const clients = await Promise.all(Array.from({ length: 20 }, () => datagrams()));
      const answers = await Promise.all(
        clients.map(async (client, i) => {
          const answer = next(client);
          client.send(`client ${i}`, place());
          return (await answer).toString();
        }),
      );
      expect(answers).toEqual(clients.map((_, i) => `CLIENT ${i}`));
      expect(new Set(network.datagrams.map(({ from }) => from)).size).toBe(20);
      expect(network.udp.size).toBe(20);
    });

    it('let nobody but the service answer', async () => {
      forward();
      const client = await datagrams();
      let answer = next(client);
      client.send('one', place());
      await answer;
      const words = new Uint32Array(10);
      at('10.100.0.4:53').write(words, 0);
      at(network.datagrams[0]!.from).write(words, 1);
      network.connector.sendUdp(reactor.now(), words, 0, 1, Buffer.from('evil'), 0, 4);
      answer = next(client);
      client.send('two', place());
      expect((await answer).toString()).toBe('TWO');
      expect(count('udp_dropped')).toBe(1);
    });

    it('carry IPv6 clients', async () => {
      forward('udp://[::1]:0=names:53');
      const client = await datagrams('::1');
      const answer = next(client);
      client.send('six', place(), '::1');
      expect((await answer).toString()).toBe('SIX');
    });

    it('carry nothing to what is not granted, and count it', async () => {
      forward('udp://127.0.0.1:0=secret');
      const client = await datagrams();
      client.send('x', place());
      await expect.poll(() => count('udp_not_allowed')).toBe(1);
      expect(network.udp.size).toBe(0);
    });

    it('take clients that are allowed only', async () => {
      start({ forwards: [parseForward('udp://0.0.0.0:0=names')] }, new ProxyAccess([Prefix.parse('192.0.2.0/24')!]));
      const client = await datagrams();
      const answer = next(client);
      client.send('loopback', place());
      expect((await answer).toString()).toBe('LOOPBACK');
      expect(server.listeners[0]!.isExposed).toBe(true);
    });

    it('end their flows when they stand for another service, or for none', async () => {
      forward();
      const client = await datagrams();
      let answer = next(client);
      client.send('one', place());
      await answer;
      server.endFlows(() => false);
      expect(network.udp.size).toBe(1);
      server.reconfigure({ forwards: [parseForward('udp://127.0.0.1:0=web:9')] }, new ProxyAccess());
      expect(network.udp.size).toBe(0);
      server.reconfigure({ forwards: [parseForward('udp://127.0.0.1:0=names')] }, new ProxyAccess());
      answer = next(client);
      client.send('two', place());
      await answer;
      policy = undefined;
      server.endFlows(() => false);
      expect(network.udp.size).toBe(0);
    });

    it('count what the network says it could not deliver', async () => {
      network.answer = undefined;
      network.rejects = 'port-unreachable';
      forward();
      const client = await datagrams();
      client.send('x', place());
      await expect.poll(() => count('udp_undelivered')).toBe(1);
    });

    it('are so many flows at once and no more', async () => {
      forward();
      const ports = Array.from({ length: MAX_UDP_PORTS }, () =>
        network.udp.open({ onDatagram: () => {}, onUndelivered: () => {} }),
      );
      expect(new Set(ports).size).toBe(MAX_UDP_PORTS);
      expect(network.udp.open({ onDatagram: () => {}, onUndelivered: () => {} })).toBe(0);
      const client = await datagrams();
      client.send('x', place());
      await expect.poll(() => count('udp_flows_over_limit')).toBe(1);
      for (const port of ports) network.udp.close(port);
    });
  });
});
