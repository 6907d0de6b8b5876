/**
 * Frames with TLS, QUIC and DNS in them, both families mixed, played to an engine: names are learnt and rules decide, and nothing of what
 * passes is changed.
 */
import { describe, expect, it } from 'vitest';
import { IpAddress } from '../../../src/base/address.js';
import { Millis, Seconds } from '../../../src/base/time.js';
import type { FlowMetadata } from '../../../src/engine/hooks.js';
import { readPacket, udpPacket } from '../../support/packets.js';
import { a, query, read, reply } from '../dns/world.js';
import { clientHello, cryptoFrame, hex, initialPacket, padded, records } from '../names/hellos.js';
import { CLIENT, CLIENT6, type MockConnection, MockHost } from './mock-host.js';

const WEB = '93.184.216.34:443';
const DNS = '10.83.0.2';
const SERVER = '10.9.0.53';
const v4 = { from: CLIENT, to: '93.184.216.34' };
const v6 = { from: CLIENT6, to: '2606:2800:220:1::1' };
const hello = (name: string, more = {}) => records(clientHello({ name, ...more }), 700);
const message = clientHello({ name: 'quic.example', protocols: ['h3'], keyShare: 1220 });
const quic = [
  initialPacket({ id: hex('0102030405060708'), payload: padded(cryptoFrame(message, 700, message.length)) }),
  initialPacket({ id: hex('0102030405060708'), number: 1, payload: padded(cryptoFrame(message, 0, 700)) }),
];

function say(
  client: { connection: { write(bytes: Uint8Array, offset: number, length: number): number } },
  bytes: Uint8Array,
): void {
  expect(client.connection.write(bytes, 0, bytes.length)).toBe(bytes.length);
}

/** The host's side as a name server that answers every question with one address. */
function serveDns(
  host: MockHost,
  answer: (name: string) => string = () => '10.1.1.1',
  tcpOnly = false,
): MockConnection[] {
  const asked: MockConnection[] = [];
  host.onDial = (connection) => {
    host.engine.connected(connection.id);
    if (connection.request.destination.port === 53) asked.push(connection);
  };
  host.onSend = (connection, bytes) => {
    const { protocol, destination } = connection.request;
    if (destination.port !== 53) return;
    const sent = (protocol === 'tcp' ? bytes.slice(2) : bytes).slice();
    const packet = read(sent);
    const question = packet.questions![0]!;
    const as = { via: protocol, bytes: sent, query: packet, question, name: question.name };
    const isCut = tcpOnly && protocol === 'udp';
    const answers = question.type === 'A' && !isCut ? [a(question.name, answer(question.name.toLowerCase()))] : [];
    const back = reply(as, { answers, flags: isCut ? 0x380 : 0x180 });
    if (protocol === 'tcp') host.reply(connection, Uint8Array.from([back.length >> 8, back.length & 255, ...back]));
    else host.reply(connection, back, destination.toString());
  };
  return asked;
}

describe('names', () => {
  it('are learnt from TLS and QUIC in mixed frames; every byte and family passes as it was', () => {
    const host = new MockHost();
    host.onDial = (connection) => host.engine.connected(connection.id);
    const flows = [WEB, `[${v6.to}]:443`].map((to) => host.open(to));
    const bytes = ['one.example', 'six.example'].map((name) => hello(name, { keyShare: 1220, encrypted: false }));
    for (const [i, { client }] of flows.entries()) {
      for (let at = 0; at < bytes[i]!.length; at += 311) say(client, bytes[i]!.slice(at, at + 311));
    }
    const datagrams = quic.map((packet, i) => udpPacket(i === 0 ? v4 : { ...v4 }, 4000, 443, packet));
    host.engine.packets([
      datagrams[0]!,
      udpPacket(v6, 4001, 443, quic[0]!),
      datagrams[1]!,
      udpPacket(v6, 4001, 443, quic[1]!),
    ]);
    host.engine.packets([udpPacket(v4, 4002, 3478, 'no QUIC at all')]);
    host.run(Millis(50));
    for (const [i, { host: connection }] of flows.entries()) {
      expect(Uint8Array.from(Buffer.concat(connection.received))).toEqual(bytes[i]);
    }
    const udp = host.connections.filter(({ request }) => request.protocol === 'udp');
    expect(udp.map(({ received }) => received.map((part) => part.length))).toEqual([
      [quic[0]!.length, quic[1]!.length],
      [quic[0]!.length, quic[1]!.length],
      [14],
    ]);
    for (const { received } of udp.slice(0, 2)) expect(received).toEqual(quic);
    expect(host.values).toMatchObject({ 'flow_names{source=tls}': 2, 'flow_names{source=quic}': 2 });
    // What comes back has the family and the ports of its flow.
    for (const [i, connection] of udp.slice(0, 2).entries())
      host.reply(connection, `answer ${i}`, connection.request.destination.toString());
    host.run(Millis(50));
    const back = host.packets.map(readPacket);
    expect(back.map(({ from, to, port }) => [from, to, port])).toEqual([
      [v4.to, CLIENT, 4000],
      [v6.to, CLIENT6, 4001],
    ]);
    expect(host.families.slice(-2)).toEqual([4, 6]);
  });
});

describe('onMetadata', () => {
  it('tells a flow’s name when it begins with one, and what its ClientHello says; ECH, ALPN and QUIC’s version with it', () => {
    const told: FlowMetadata[] = [];
    const host = new MockHost({ hooks: { onMetadata: (metadata) => told.push(metadata) } });
    host.onDial = (connection) => host.engine.connected(connection.id);
    host.engine.names.record('looked-up.example', ['93.184.216.34']);
    const { client } = host.open(WEB);
    say(client, hello('outer.example', { encrypted: true, protocols: ['h2', 'http/1.1'], versions: [0x0304] }));
    say(host.open('93.184.216.35:443').client, hello('own.example'));
    host.engine.packets(quic.map((packet) => udpPacket({ ...v4, to: '93.184.216.36' }, 4000, 443, packet)));
    host.engine.packets([udpPacket({ ...v4, to: '93.184.216.37' }, 4001, 3478, 'nothing to tell')]);
    host.run(Millis(50));
    const brief = told.map(({ protocol, destination, host: name, nameSource, outer, hello: said }) => [
      `${protocol} ${destination.ip} ${name} ${nameSource} ${outer}`,
      said && [said.serverName, said.protocols.join(), said.encrypted, said.quicVersion],
    ]);
    expect(brief).toEqual([
      ['tcp 93.184.216.34 looked-up.example hook false', undefined],
      ['tcp 93.184.216.34 looked-up.example hook false', ['outer.example', 'h2,http/1.1', true, undefined]],
      ['udp 93.184.216.36 quic.example quic false', ['quic.example', 'h3', false, 1]],
      ['tcp 93.184.216.35 own.example tls false', ['own.example', '', false, undefined]],
    ]);
    expect(told.every(({ source }) => source.ip.toString() === CLIENT)).toBe(true);
  });

  it('is not called about refused flows, and one that throws is counted', () => {
    let calls = 0;
    const host = new MockHost({
      rules: ['reject host=bad.example'],
      hooks: {
        onMetadata: () => {
          calls++;
          throw new Error('of the host');
        },
      },
    });
    host.engine.names.record('bad.example', ['93.184.216.34']);
    host.engine.names.record('good.example', ['93.184.216.35']);
    host.connect(WEB);
    expect(host.open('93.184.216.35:443').client.connected).toBe(true);
    expect([calls, host.values['hook_errors']]).toEqual([1, 1]);
  });
});

describe('rules', () => {
  it('decide by address, port and protocol when a flow begins', () => {
    const host = new MockHost({
      rules: ['reject port=25', 'block cidr=198.51.100.0/24', 'reject protocol=udp cidr=2606::/16'],
    });
    const refused = host.connect('93.184.216.34:25');
    const silent = host.connect('198.51.100.7:80');
    host.engine.packets([udpPacket(v6, 4001, 443, 'x'), udpPacket({ ...v4, to: '198.51.100.7' }, 4002, 53, 'x')]);
    host.run(Millis(100));
    expect([refused.closed, silent.closed, silent.connected]).toEqual(['refused', undefined, false]);
    expect(host.packets.map(readPacket).map(({ icmpType, icmpCode }) => [icmpType, icmpCode])).toEqual([[1, 4]]);
    expect(host.connections).toEqual([]);
    expect(host.values).toMatchObject({ 'rule_decisions{action=reject}': 2, flows_denied: 4 });
    expect(host.open(WEB).client.connected).toBe(true);
  });

  it('decide by the name an address was looked up by, and again when the flow says its own', () => {
    const host = new MockHost({ rules: ['allow host=good.ads.example', 'reject suffix=ads.example'] });
    host.engine.names.record('x.ads.example', ['93.184.216.34']);
    const refused = host.connect(WEB);
    host.run(Millis(50));
    expect(refused.closed).toBe('refused');
    const [bad, good] = [host.open('93.184.216.35:443'), host.open('93.184.216.35:443')];
    say(bad.client, hello('track.ads.example'));
    say(good.client, hello('good.ads.example'));
    host.run(Millis(50));
    expect([bad.client.closed, bad.host.closed]).toEqual(['reset', 'aborted']);
    expect([good.client.closed, good.host.closed]).toEqual([undefined, undefined]);
    expect(host.values).toMatchObject({ 'rule_decisions{action=reject}': 2 });
  });

  it('say nothing about the outer name of an encrypted hello', () => {
    const host = new MockHost({ rules: ['reject host=public.example'] });
    const { client } = host.open(WEB);
    say(client, hello('public.example', { encrypted: true }));
    host.run(Millis(50));
    expect(client.closed).toBeUndefined();
  });

  it('of delay dial a TCP flow later, and give up with it', () => {
    const host = new MockHost({ rules: ['delay port=443 delay=300ms'] });
    host.connect(WEB);
    host.run(Millis(299));
    expect(host.connections).toHaveLength(0);
    host.run(Millis(2));
    expect(host.connections).toHaveLength(1);
    host.connect(WEB);
    host.run(Millis(10));
    host.engine.stop();
    host.run(Millis(400));
    expect(host.connections).toHaveLength(1);
    expect(host.values['rule_decisions{action=delay}']).toBe(2);
  });

  it('and servers that are wrong are refused when the engine is made', () => {
    const make = (overrides: ConstructorParameters<typeof MockHost>[0]) => () => new MockHost(overrides);
    expect(make({ rules: ['deny'] })).toThrow(expect.objectContaining({ code: 'RULE' }));
    expect(make({ dns: { mode: 'hijack', servers: ['dns.example'] } })).toThrow(
      expect.objectContaining({ code: 'DNS_SERVER' }),
    );
    expect(make({ dns: { mode: 'forward', servers: [] } })).toThrow(
      expect.objectContaining({ code: 'ENGINE_SETTINGS' }),
    );
    expect(make({ dns: { mode: 'hijack', servers: ['tls://10.0.0.1'] } })).toThrow(
      expect.objectContaining({ code: 'DNS_TLS' }),
    );
  });
});

describe('the resolver inside', () => {
  const forward = { mode: 'forward', servers: [SERVER], addresses: [DNS, 'fd53:616c:6c79::2'] } as const;

  it('answers at its address in both families, through the dialer; other name servers are left alone', () => {
    const host = new MockHost({ dns: forward });
    const asked = serveDns(host);
    host.engine.packets([
      udpPacket({ from: CLIENT, to: DNS }, 4000, 53, query('www.example', 'A', { id: 11 })),
      udpPacket({ from: CLIENT6, to: 'fd53:616c:6c79::2' }, 4001, 53, query('www.example', 'A', { id: 12 })),
      udpPacket({ from: CLIENT, to: '9.9.9.9' }, 4002, 53, query('www.example', 'A')),
    ]);
    host.run(Millis(50));
    const answers = host.packets.map(readPacket).filter(({ from }) => from !== '9.9.9.9');
    expect(answers.map(({ from, port, data }) => [from, port, read(data).id, read(data).answers])).toEqual([
      [DNS, 4000, 11, [expect.objectContaining({ data: '10.1.1.1' })]],
      ['fd53:616c:6c79::2', 4001, 12, [expect.objectContaining({ data: '10.1.1.1' })]],
    ]);
    expect(asked.map(({ request }) => request.destination.toString()).sort()).toEqual(
      [`${SERVER}:53`, '9.9.9.9:53'].sort(),
    );
    expect(host.engine.names.of('10.1.1.1')).toBe('www.example');
    host.connect('10.1.1.1:80');
    host.run(Millis(10));
    expect(host.last.request).toMatchObject({ host: 'www.example', protocol: 'tcp' });
    expect(host.values).toMatchObject({ 'dns{event=queries}': 2, 'dns{event=joined}': 1, 'dns{event=answers}': 1 });
  });

  it('falls back to TCP, to the next server, and to SERVFAIL', () => {
    const host = new MockHost({ dns: { ...forward, mode: 'hijack', servers: ['10.9.0.52', SERVER] } });
    const asked = serveDns(host, () => '10.1.1.2', true);
    const ask = (name: string) =>
      host.engine.packets([udpPacket({ from: CLIENT, to: '9.9.9.9' }, 4000, 53, query(name, 'A'))]);
    ask('www.example');
    host.run(Millis(50));
    expect(asked.map(({ request }) => request.protocol)).toEqual(['udp', 'tcp']);
    expect(readPacket(host.packets[0]!)).toMatchObject({ from: '9.9.9.9', sourcePort: 53 });
    expect(read(readPacket(host.packets[0]!).data).answers).toMatchObject([{ data: '10.1.1.2' }]);
    host.onSend = undefined;
    ask('dead.example');
    host.run(Seconds(12));
    expect(asked.slice(2).map(({ request }) => request.destination.ip.toString())).toEqual([
      '10.9.0.52',
      SERVER,
      '10.9.0.52',
    ]);
    expect(read(readPacket(host.packets[1]!).data)).toMatchObject({ rcode: 'SERVFAIL' });
    expect(host.values).toMatchObject({
      'dns{event=timeouts}': 3,
      'dns{event=failures}': 1,
      'dns{event=truncated}': 1,
    });
  });

  it('answers over TCP, many queries on one connection, and ends idle ones', () => {
    const host = new MockHost({ dns: forward });
    serveDns(host, (name) => (name === 'a.example' ? '10.1.1.1' : '10.1.1.2'));
    const client = host.connect(`${DNS}:53`);
    host.run(Millis(10));
    const framed = ['a.example', 'b.example'].flatMap((name) => {
      const bytes = query(name, 'A');
      return [bytes.length >> 8, bytes.length & 255, ...bytes];
    });
    say(client, Uint8Array.from(framed));
    host.run(Millis(50));
    const first = client.data.subarray(2, 2 + client.data[0]! * 256 + client.data[1]!);
    expect(read(first.slice()).answers).toMatchObject([{ name: 'a.example', data: '10.1.1.1' }]);
    expect(client.data.length).toBe(2 * (first.length + 2));
    host.run(Seconds(11));
    expect(client.closed).toBe('reset');
  });

  it('asks the host’s own resolver first', () => {
    const resolver = (host: string, answer: (result: { addresses: string[] } | undefined) => void) =>
      answer(host === 'corp.example' ? { addresses: ['10.7.7.7'] } : undefined);
    const host = new MockHost({ dns: { ...forward, resolver } });
    const asked = serveDns(host);
    host.engine.packets(
      ['corp.example', 'www.example'].map((name, i) =>
        udpPacket({ from: CLIENT, to: DNS }, 4000 + i, 53, query(name, 'A')),
      ),
    );
    host.run(Millis(50));
    expect(host.packets.map((p) => read(readPacket(p).data).answers![0])).toMatchObject([
      { data: '10.7.7.7' },
      { data: '10.1.1.1' },
    ]);
    expect(asked).toHaveLength(1);
    expect(host.engine.names.of('10.7.7.7')).toBe('corp.example');
  });

  it('in mode fake-ip gives the host the name to dial, and refuses addresses that stand for none', () => {
    const host = new MockHost({ dns: { ...forward, mode: 'fake-ip' }, rules: ['reject host=bad.example'] });
    serveDns(host);
    host.engine.packets(
      ['www.example', 'bad.example'].map((name, i) =>
        udpPacket({ from: CLIENT, to: DNS }, 4000 + i, 53, query(name, 'A')),
      ),
    );
    host.run(Millis(50));
    const fake = host.packets.map((p) => (read(readPacket(p).data).answers![0] as { data: string }).data);
    expect(fake).toEqual(['10.126.0.16', '10.126.0.17']);
    host.connect(`${fake[0]}:443`);
    host.run(Millis(10));
    expect(host.last.request.host).toBe('www.example');
    expect(host.last.request.destination.ip.equals(IpAddress.parse(fake[0]!)!)).toBe(true);
    const [refused, nobody] = [host.connect(`${fake[1]}:443`), host.connect('10.126.0.99:443')];
    host.run(Millis(50));
    expect([refused.closed, nobody.closed]).toEqual(['refused', 'unreachable']);
  });

  it('stops with the engine, whatever is under way', () => {
    const host = new MockHost({ dns: forward });
    host.engine.packets([udpPacket({ from: CLIENT, to: DNS }, 4000, 53, query('www.example', 'A'))]);
    host.run(Millis(5));
    host.engine.stop();
    host.run(Seconds(20));
    expect([host.scheduled, host.last.closed]).toEqual([0, 'finished']);
    host.engine.start();
    serveDns(host);
    host.engine.packets([udpPacket({ from: CLIENT, to: DNS }, 4001, 53, query('www.example', 'A'))]);
    host.run(Millis(50));
    expect(host.packets.map(readPacket).map(({ port }) => port)).toContain(4001);
  });
});
