/** Dialers through proxies: SOCKS 5 against the server's side of the agent's own proxy, HTTP CONNECT against written answers. */
import { beforeEach, expect, test } from 'vitest';
import type { Failure } from '../../src/agent/proxy/negotiation.js';
import { Socks5 } from '../../src/agent/proxy/socks5.js';
import { IpAddress } from '../../src/base/address.js';
import { Seconds } from '../../src/base/time.js';
import type { Dialer } from '../../src/engine/dialer.js';
import { FakeIpPool } from '../../src/engine/dns/fake-ip.js';
import { NamedDialer } from '../../src/engine/dns/named-dialer.js';
import type { Resolver } from '../../src/engine/dns/resolver.js';
import type { FlowLimits } from '../../src/engine/flow-options.js';
import { ConnectScript, HttpDialer } from '../../src/engine/proxies/http-dialer.js';
import { Socks5Dialer } from '../../src/engine/proxies/socks5-dialer.js';
import type { ProxyCredentials } from '../../src/engine/proxies/socks5-script.js';
import type { Reactor } from '../../src/os/io.js';
import { encodeName, readAddress } from '../../src/wire/socks.js';
import { readPacket, udpPacket } from '../support/packets.js';
import type { SimStream } from '../support/sim-stream.js';
import { at, Bench, CLIENT } from './harness.js';

const PROXY = '192.168.1.10:1080';
const TARGET = '93.184.216.34:443';
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const alice: ProxyCredentials = { user: bytesOf('alice'), password: bytesOf('päss') };

interface SocksSetup {
  readonly credentials?: ProxyCredentials;
  readonly asksPassword?: boolean;
  /** What becomes of a CONNECT; undefined: it is accepted. */
  readonly failure?: Failure;
  /** How the server's bytes come: all at once, or one by one. */
  readonly piecewise?: boolean;
  /** The proxy looks names up. */
  readonly takesNames?: boolean;
}

/** Fake addresses, and the resolver that knows where `a.example` is; who asked it. */
const pool = new FakeIpPool();
const FAKE = { 4: pool.addressOf('a.example', 4), 6: pool.addressOf('a.example', 6) } as const;
let lookedUp: string[] = [];
beforeEach(() => {
  lookedUp = [];
});
const behindNames = (reactor: Reactor, dialer: Dialer): Dialer => {
  const real = IpAddress.parse('93.184.216.34')!;
  const resolver = {
    known: (host: string) => {
      lookedUp.push(host);
      return [real];
    },
  } as unknown as Resolver;
  return new NamedDialer(reactor, dialer, pool, () => resolver);
};

/** A Bench whose flows leave by a SOCKS server, and what that server was asked. */
function socks(
  { credentials, asksPassword = false, failure, piecewise = false, takesNames = false }: SocksSetup,
  limits: Partial<FlowLimits> = {},
) {
  const it = new Bench({ udpFiltering: 'endpoint-independent', ...limits }, (reactor, sockets) => {
    return behindNames(reactor, new Socks5Dialer({ reactor, sockets, proxy: at(PROXY), credentials, takesNames }));
  });
  const asked: string[] = [];
  const tunnels: { stream: SimStream; received: () => string }[] = [];
  it.sockets.tcpBackend(PROXY).onConnect = (stream) => {
    const server = new Socks5({
      asksPassword,
      isUser: (user, password) => user === 'alice' && password === 'päss',
    });
    let through = '';
    const say = (bytes: Uint8Array): void => {
      if (bytes.length === 0) return;
      if (piecewise) for (const byte of bytes) stream.say(Uint8Array.of(byte));
      else stream.say(bytes);
    };
    stream.onData = (bytes) => {
      const taken = server.state === 'reading' ? server.feed(bytes, 0, bytes.length) : 0;
      say(server.takeReply());
      through += textOf(bytes.subarray(taken));
      if (server.state === 'failed') stream.end();
      if (server.state !== 'asked' || taken === 0) return;
      const { target, association } = server;
      asked.push(target === undefined ? 'udp' : `${target.host}:${target.port}`);
      if (failure !== undefined) say(server.refuse(failure));
      else say(server.accept(at(association === undefined ? '10.0.0.1:9999' : '0.0.0.0:4000')));
      tunnels.push({ stream, received: () => through });
    };
  };
  return { it, asked, tunnels };
}

test.each([
  ['without a password', {}],
  ['with one', { credentials: alice, asksPassword: true }],
  ['byte by byte', { credentials: alice, asksPassword: true, piecewise: true }],
] as const)('SOCKS 5 CONNECT %s', (_name, setup) => {
  const { it, asked, tunnels } = socks(setup);
  const client = it.connect(TARGET);
  it.run(Seconds(1));
  expect(client.connected).toBe(true);
  expect(asked).toEqual([TARGET]);
  client.connection.write(bytesOf('hello'), 0, 5);
  it.run(Seconds(1));
  expect(tunnels[0]!.received()).toBe('hello');
  it.flows.close();
});

test.each([
  [true, 'a.example:443', []],
  [false, '93.184.216.34:443', ['a.example']],
] as const)('a fake address through SOCKS 5, a proxy that looks names up: %s', (takesNames, target, asks) => {
  const { it, asked } = socks({ takesNames });
  const client = it.connect(`${FAKE[4]}:443`);
  it.run(Seconds(1));
  expect([client.connected, asked, lookedUp]).toEqual([true, [target], asks]);
  // What is no fake address goes by address to either.
  it.connect(TARGET);
  it.run(Seconds(1));
  expect(asked.at(-1)).toBe(TARGET);
  // Datagrams go by address to either, and come back from the fake one.
  it.inject(udpPacket({ from: CLIENT, to: `${FAKE[4]}` }, 5000, 443, 'x'));
  it.run(Seconds(1));
  const [port] = it.sockets.ports;
  expect([...port!.sent[0]!.bytes.subarray(3, 8)]).toEqual([1, 93, 184, 216, 34]);
  it.flows.close();
});

test('a fake address of IPv6, and one without a name', () => {
  const asked: (string | undefined)[] = [];
  const inner = {
    takesNames: true,
    tcp: (_target: unknown, _done: unknown, host?: string) => {
      asked.push(host);
      return () => {};
    },
  } as unknown as Dialer;
  const dialer = behindNames({} as Reactor, inner);
  dialer.tcp(at(`[${FAKE[6]}]:443`), () => {});
  expect(asked).toEqual(['a.example']);
  expect(() => dialer.tcp(at('10.126.200.200:443'), () => {})).toThrow('no name');
});

test('a name in a request: type, length, bytes, port', () => {
  const longest = 'a'.repeat(253);
  for (const host of ['a', 'a.example', longest]) {
    const bytes = encodeName(host, 0xfffe);
    expect([...bytes.subarray(0, 2), ...bytes.subarray(-2)]).toEqual([3, host.length, 255, 254]);
    expect(readAddress(bytes, 0, bytes.length)).toEqual({ host, port: 0xfffe });
  }
});

test.each([
  ['refused', 'refused', 'tcp_dial_refused'],
  ['net-unreachable', 'unreachable', 'tcp_dial_unreachable'],
  ['host-unreachable', 'unreachable', 'tcp_dial_unreachable'],
  ['not-allowed', 'unreachable', 'tcp_dial_blocked'],
  ['failed', 'unreachable', 'tcp_dial_unreachable'],
  ['timeout', undefined, 'tcp_dial_timeout'],
] as const)('the proxy’s reply “%s” reaches the client as %s', (failure, closed, counter) => {
  const { it } = socks({ failure });
  const client = it.connect(TARGET);
  it.run(Seconds(0.5));
  expect([client.connected, client.closed]).toEqual([false, closed]);
  expect(it.counters.get(counter)).toBe(1);
  it.flows.close();
  expect(it.sockets.streams.every((stream) => stream.closed !== undefined)).toBe(true);
});

test.each([
  ['a password that is wrong', { credentials: { ...alice, password: bytesOf('no') }, asksPassword: true }],
  ['none where one is asked for', { asksPassword: true }],
] as const)('%s: blocked', (_name, setup) => {
  const { it, asked } = socks(setup);
  const client = it.connect(TARGET);
  it.run(Seconds(1));
  expect(client.closed).toBe('unreachable');
  expect(asked).toEqual([]);
  expect(it.counters.get('tcp_dial_blocked')).toBe(1);
});

test('a proxy that is not there, or says nothing', () => {
  const { it } = socks({});
  it.sockets.tcpBackends.delete(PROXY);
  const refused = it.connect(TARGET);
  it.run(Seconds(1));
  expect(refused.closed).toBe('refused');
  it.sockets.tcpBackend(PROXY).onConnect = () => {};
  it.connect(TARGET);
  it.run(Seconds(11));
  expect(it.counters.get('tcp_dial_timeout')).toBe(1);
  expect(it.reactor.watched).toBeLessThanOrEqual(1);
  it.flows.close();
  expect(it.reactor.watched).toBe(0);
});

test('answers of no SOCKS server are refused at any byte', () => {
  for (const noise of [
    'HTTP/1.1 400 Bad\r\n\r\n',
    '\x05\x07',
    '\x05\x00\x04\x00',
    '\x05\x00\x05\x00\x00\x09\x00\x00',
    '',
  ]) {
    const it = new Bench({}, (reactor, sockets) => {
      return new Socks5Dialer({ reactor, sockets, proxy: at(PROXY), credentials: undefined, takesNames: false });
    });
    it.sockets.tcpBackend(PROXY).onConnect = (stream) => {
      stream.say(bytesOf(noise));
      stream.end();
    };
    const client = it.connect(TARGET);
    it.run(Seconds(1));
    expect([client.connected, client.closed], JSON.stringify(noise)).not.toEqual([true, undefined]);
    expect(client.closed).toBeDefined();
    expect(it.reactor.watched).toBe(0);
  }
});

test('SOCKS 5 UDP: datagrams wait for the association, go through the relay, and end with its control connection', () => {
  const { it, asked, tunnels } = socks({});
  const ends = { from: CLIENT, to: '1.1.1.1' };
  for (let n = 0; n < 70; n++) it.inject(udpPacket(ends, 5000, 53, `q${n}`));
  expect(it.counters.get('udp_send_blocked')).toBe(6);
  it.run(Seconds(1));
  expect(asked).toEqual(['udp']);
  const [port] = it.sockets.ports;
  // The relay says "any address": it is where the proxy is.
  expect(new Set(port!.sent.map((one) => one.to))).toEqual(new Set(['192.168.1.10:4000']));
  const [first] = port!.sent;
  expect([port!.sent.length, ...first!.bytes.subarray(0, 10)]).toEqual([64, 0, 0, 0, 1, 1, 1, 1, 1, 0, 53]);
  expect(textOf(first!.bytes.subarray(10))).toBe('q6');
  const answer = (...header: number[]): string => String.fromCharCode(...header, ...bytesOf('answer'));
  port!.reply('192.168.1.10:4000', answer(0, 0, 0, 1, 8, 8, 4, 4, 0, 99));
  port!.reply('192.168.1.10:4001', answer(0, 0, 0, 1, 6, 6, 6, 6, 0, 99));
  for (const bad of [
    [0, 0, 1, 1, 8, 8, 8, 8, 0, 99],
    [0, 0, 0, 3, 1, 65, 0, 99],
    [0, 0, 0, 9],
    [0, 0],
  ]) {
    port!.reply('192.168.1.10:4000', String.fromCharCode(...bad));
  }
  it.run(Seconds(1));
  expect(
    it.packets.map(readPacket).map(({ from, sourcePort, port: to, data }) => [from, sourcePort, to, textOf(data)]),
  ).toEqual([['8.8.4.4', 99, 5000, 'answer']]);
  tunnels[0]!.stream.end();
  it.run(Seconds(1));
  expect(it.flows.udp.size).toBe(0);
  it.inject(udpPacket(ends, 5000, 53, 'anew'));
  it.run(Seconds(1));
  expect(it.sockets.ports[1]!.sent.length).toBe(1);
  it.flows.close();
  expect(it.reactor.watched).toBe(0);
  expect(it.sockets.ports.every(({ isClosed }) => isClosed)).toBe(true);
});

test.each([
  ['refused', 1, 'udp_dial_refused'],
  ['net-unreachable', 1, 'udp_dial_unreachable'],
  ['host-unreachable', 1, 'udp_dial_unreachable'],
  ['not-allowed', 1, 'udp_dial_blocked'],
  ['timeout', 1, 'udp_dial_timeout'],
] as const)('an association that is answered “%s” answers the datagram', (failure, told, counter) => {
  const { it } = socks({ failure });
  it.inject(udpPacket({ from: CLIENT, to: '1.1.1.1' }, 5000, 53, 'q'));
  it.run(Seconds(1));
  expect(it.flows.stack.counters.stack.get('icmp_out')).toBe(told);
  expect([it.counters.get(counter), it.flows.udp.size, it.reactor.watched]).toEqual([1, 0, 0]);
  expect(it.sockets.ports.every(({ isClosed }) => isClosed)).toBe(true);
});

test.each(['says nothing', 'stops in the middle'])(
  'an association with a proxy that %s has the time of a dial',
  (how) => {
    const { it } = socks({});
    it.sockets.tcpBackend(PROXY).onConnect = (stream) => {
      if (how !== 'says nothing') stream.say(Uint8Array.of(5, 0));
    };
    const { stack, udp } = it.flows;
    it.inject(udpPacket({ from: CLIENT, to: FAKE[4].toString() }, 5000, 53, 'q'));
    it.run(Seconds(9));
    expect([udp.list(1)[0]!.state, stack.counters.stack.get('icmp_out')]).toEqual(['dialling', 0]);
    it.run(Seconds(2));
    expect([it.counters.get('udp_dial_timeout'), stack.counters.stack.get('icmp_out')]).toEqual([1, 1]);
    expect([udp.size, it.reactor.watched]).toEqual([0, 0]);
    expect(it.sockets.ports.every(({ isClosed }) => isClosed)).toBe(true);
    expect(it.sockets.streams.every((stream) => stream.closed !== undefined)).toBe(true);
  },
);

test('a UDP flow that has made room for another one is not told of when its dial would have had its time', () => {
  const { it } = socks({}, { udpFlows: 1, udpEvict: true });
  it.sockets.tcpBackend(PROXY).onConnect = () => {};
  for (const port of [5000, 5001]) it.inject(udpPacket({ from: CLIENT, to: '1.1.1.1' }, port, 53, 'q'));
  it.run(Seconds(11));
  expect([it.counters.get('udp_evicted'), it.counters.get('udp_dial_timeout')]).toEqual([1, 1]);
  expect(it.reactor.nextDue()).toBeUndefined();
});

/** A Bench whose flows leave by an HTTP proxy that gives this answer. */
function http(answer: string, basic?: string) {
  const it = new Bench({ udpFiltering: 'endpoint-independent' }, (reactor, sockets) => {
    return behindNames(reactor, new HttpDialer({ reactor, sockets, proxy: at('192.168.1.10:3128'), basic }));
  });
  it.sockets.tcpBackend('192.168.1.10:3128').onConnect = (stream) => stream.say(bytesOf(answer));
  return it;
}

test('HTTP CONNECT: the request, and a target that speaks first', () => {
  const it = http('HTTP/1.1 103 Early\r\n\r\nHTTP/1.0 200 OK\r\nVia: x\r\n\r\nSSH-2.0-x', 'YTpi');
  const client = it.connect(TARGET);
  let heard = '';
  client.onData = (bytes, offset, length) => {
    heard += textOf(bytes.subarray(offset, offset + length));
    return length;
  };
  it.run(Seconds(1));
  expect(client.connected).toBe(true);
  expect(heard).toBe('SSH-2.0-x');
  expect(it.sockets.streams[0]!.text()).toBe(
    `CONNECT ${TARGET} HTTP/1.1\r\nHost: ${TARGET}\r\nProxy-Authorization: Basic YTpi\r\n\r\n`,
  );
  it.flows.close();
});

test('HTTP CONNECT to a fake address: by name, which nobody here looks up', () => {
  const it = http('HTTP/1.1 200 OK\r\n\r\n');
  const client = it.connect(`${FAKE[4]}:443`);
  it.run(Seconds(1));
  expect([client.connected, lookedUp]).toEqual([true, []]);
  expect(it.sockets.streams[0]!.text()).toBe('CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n');
  it.flows.close();
});

test('HTTP CONNECT to an IPv6 address', () => {
  const { greeting } = new ConnectScript('[2001:db8::1]:22', undefined);
  expect(textOf(greeting)).toBe('CONNECT [2001:db8::1]:22 HTTP/1.1\r\nHost: [2001:db8::1]:22\r\n\r\n');
});

test.each([
  ['HTTP/1.1 403 Forbidden\r\n\r\n', 'tcp_dial_blocked'],
  ['HTTP/1.1 407 Proxy Authentication Required\r\n\r\n', 'tcp_dial_blocked'],
  ['HTTP/1.1 502 Bad Gateway\r\n\r\n', 'tcp_dial_refused'],
  ['HTTP/1.1 503 Unavailable\r\n\r\n', 'tcp_dial_unreachable'],
  ['HTTP/1.1 504 Timeout\r\n\r\n', 'tcp_dial_timeout'],
  ['SSH-2.0-OpenSSH\r\n\r\n', 'tcp_dial_unreachable'],
  ['x'.repeat(20_000), 'tcp_dial_unreachable'],
] as const)('HTTP answer %j', (answer, counter) => {
  const it = http(answer);
  it.connect(TARGET);
  it.run(Seconds(0.5));
  expect(it.counters.get(counter)).toBe(1);
  expect(it.reactor.watched).toBe(0);
  it.flows.close();
});

test('HTTP carries no datagrams: what has another way learns it at once', () => {
  const it = http('');
  it.inject(udpPacket({ from: CLIENT, to: '1.1.1.1' }, 5000, 443, 'quic'));
  it.run(Seconds(1));
  expect(it.flows.stack.counters.stack.get('icmp_out')).toBe(1);
  expect(it.counters.get('udp_unsupported')).toBe(1);
});
