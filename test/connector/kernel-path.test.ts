/** Mode kernel: what passes between sessions and the connector's device, and what does not, in either direction. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { IpAddress } from '../../src/base/address.js';
import { Drop } from '../../src/base/drop.js';
import { Seconds } from '../../src/base/time.js';
import { Arena, align } from '../../src/wire/arena.js';
import { ParsedPacket, parsePacket } from '../../src/wire/inner.js';
import { verifyChecksums } from '../../src/wire/verify.js';
import { overlay } from '../agent/fixtures.js';
import { pattern } from '../support/app.js';
import { echoRequest, icmpPacket, ipPacket, PROTO, readPacket, tcpPacket, udpPacket } from '../support/packets.js';
import type { SimAgent, SimConnector } from '../support/sim-nodes.js';
import type { World } from '../support/world.js';
import { hostileLink, type Scene, scene, swapped } from './fixtures.js';

const WEB = '10.100.0.1';
const DNS = '10.100.0.2';
const BOX = '10.100.0.3';
const BOX6 = 'fd00:1:2::3';
const SYN = 2;
const RST = 4;
const ACK = 16;
/** An MSS of 1460. */
const MSS = Uint8Array.of(2, 4, 1460 >> 8, 1460 & 255);

const kernelScene = (services?: Readonly<Record<string, string>>): Promise<Scene> =>
  scene({ agent: { tun: true }, connector: { kernel: true, ...(services === undefined ? {} : { services }) } });

/** What the connector's kernel gets when the agent's programs have sent this. */
function sent(world: World, agent: SimAgent, connector: SimConnector, ...packets: readonly Uint8Array[]) {
  for (const packet of packets) agent.tun!.send(packet);
  world.run(Seconds(1));
  return connector.tun!.take();
}

/** What the agent's kernel gets when the connector's has sent this. */
function answered({ world, agent, connector }: Scene, packet: Uint8Array, header?: Uint8Array) {
  connector.tun!.send(packet, header);
  world.run(Seconds(1));
  return agent.tun!.take();
}

/** A scene with a session that carries packets. */
async function live(services?: Readonly<Record<string, string>>): Promise<Scene & { readonly own: string }> {
  const it = await kernelScene(services);
  const own = overlay(it.agent);
  expect(sent(it.world, it.agent, it.connector, tcpPacket({ from: own, to: WEB }, 4000, 80)).length).toBe(1);
  return { ...it, own };
}

function parse(packet: Uint8Array) {
  const arena = new Arena(align(packet.length));
  arena.bytes.set(packet);
  const parsed = new ParsedPacket();
  expect(parsePacket(arena.bytes, 0, packet.length, parsed)).toBe(Drop.none);
  return {
    arena,
    parsed,
    from: IpAddress.v4(parsed.source3).toString(),
    to: IpAddress.v4(parsed.destination3).toString(),
  };
}

/** Whether its checksums are right. */
function isIntact(packet: Uint8Array): boolean {
  const { arena, parsed } = parse(packet);
  return verifyChecksums(arena, parsed) === Drop.none;
}

const drops = (it: Scene): Record<string, number> => it.connector.core.drops.snapshot() as Record<string, number>;

describe('from an agent', () => {
  test('what it may send arrives at the kernel as it was, in both families', async () => {
    const it = await live({ web: 'tcp://10.0.0.5:8080', dns: 'udp://10.0.0.5:53', box: 'any://[fd01::6]' });
    const { world, agent, connector, own } = it;
    const datagram = udpPacket({ from: own, to: DNS }, 5000, 53, 'who?');
    expect(sent(world, agent, connector, datagram).map(readPacket)).toEqual([readPacket(datagram)]);
    const echo = echoRequest({ from: agent.credentials.identity.overlay6!.toString(), to: BOX6 }, 7, 1);
    expect(sent(world, agent, connector, echo).map(readPacket)).toMatchObject([{ to: BOX6, icmpType: 128 }]);
  });

  test('a service without a backend here, or with one of the other family, is refused at once', async () => {
    const it = await live();
    const { world, agent, connector, own } = it;
    const six = agent.credentials.identity.overlay6!.toString();
    expect(sent(world, agent, connector, udpPacket({ from: six, to: BOX6 }, 5000, 53, 'x'))).toEqual([]);
    expect(agent.tun!.take().map(readPacket)).toMatchObject([{ protocol: PROTO.icmp6, icmpType: 1, from: BOX6 }]);
    connector.backends.delete('web');
    connector.core.backendsChanged(world.now, ['web']);
    // The flow that stood is reset as soon as the service is gone, a new one when it is tried.
    expect(sent(world, agent, connector, tcpPacket({ from: own, to: WEB }, 4001, 80))).toEqual([]);
    expect(agent.tun!.take().map(readPacket)).toMatchObject([{ from: WEB, port: 4001, flags: RST | ACK }]);
    expect(drops(it)['no_handler']).toBe(2);
  });

  test('errors pass about its own flows only', async () => {
    const it = await live();
    const { world, agent, connector, own } = it;
    const quoting = (from: string, to: string) => udpPacket({ from, to }, 53, 5000, 'quoted');
    const error = (quoted: Uint8Array) => icmpPacket({ from: own, to: BOX }, 3, 3, 0, quoted.slice(0, 28));
    expect(sent(world, agent, connector, error(quoting(BOX, own))).length).toBe(1);
    for (const foreign of [quoting(BOX, '100.64.0.99'), quoting(DNS, own), quoting(own, BOX)]) {
      expect(sent(world, agent, connector, error(foreign))).toEqual([]);
    }
    expect(drops(it)['source_not_allowed']).toBe(3);
    // A later fragment is no error, whatever came before it.
    expect(sent(world, agent, connector, error(quoting(BOX, own))).length).toBe(1);
    const fragment = { offset: 64, more: false };
    const part = ipPacket({ from: own, to: BOX, protocol: PROTO.icmp, body: new Uint8Array(8), fragment });
    expect(sent(world, agent, connector, part).length).toBe(1);
  });

  test('in IPv6 errors are compared word by word', async () => {
    const { world, agent, connector } = await live({ web: 'tcp://10.0.0.5:8080', box: 'any://[fd01::6]' });
    const six = agent.credentials.identity.overlay6!.toString();
    const quoted = udpPacket({ from: BOX6, to: six }, 53, 5000, 'quoted');
    const error = (bytes: Uint8Array) => icmpPacket({ from: six, to: BOX6 }, 1, 4, 0, bytes);
    expect(sent(world, agent, connector, error(quoted)).length).toBe(1);
    for (let at = 8; at < 40; at += 4) {
      const foreign = quoted.slice();
      foreign[at]! ^= 1;
      expect([at, sent(world, agent, connector, error(foreign))]).toEqual([at, []]);
    }
  });
});

describe('from the kernel', () => {
  test('answers of services arrive, with an MSS that fits', async () => {
    const it = await live();
    const [answer] = answered(it, tcpPacket({ from: WEB, to: it.own }, 80, 4000, SYN | ACK, MSS)).map(readPacket);
    expect(answer).toMatchObject({ from: WEB, to: it.own, sourcePort: 80, port: 4000, flags: SYN | ACK });
    expect(new DataView(answer!.transport.buffer).getUint16(22)).toBe(1360);
  });

  test('a super-segment arrives whole', async () => {
    const it = await live();
    const payload = pattern(20_000);
    const head = tcpPacket({ from: WEB, to: it.own }, 80, 4000, ACK);
    const whole = new Uint8Array(head.length + payload.length);
    whole.set(head);
    whole.set(payload, head.length);
    new DataView(whole.buffer).setUint16(2, whole.length);
    // virtio: needs checksum, TCPv4, headers 40, segments 1360, checksum from 20 at 16.
    const segments = answered(it, whole, Uint8Array.of(1, 1, 40, 0, 0x50, 5, 20, 0, 16, 0));
    expect(Buffer.concat(segments.map((one) => one.slice(40)))).toEqual(Buffer.from(payload));
    expect(it.connector.core.kernel!.port.packetsFromHost).toBe(1);
  });

  test('what is no answer of a granted service does not, and its sender is told', async () => {
    const it = await live();
    const { own, connector } = it;
    // A port that is not the service's, a service of nobody, no service at all.
    for (const [from, port] of [
      [WEB, 22],
      ['10.100.0.5', 5432],
      ['10.0.0.5', 8080],
    ] as const) {
      expect(answered(it, tcpPacket({ from, to: own }, port, 4000, ACK))).toEqual([]);
      expect(connector.tun!.take().map(readPacket)).toMatchObject([{ from: own, to: from, port, flags: RST | ACK }]);
    }
    expect(answered(it, udpPacket({ from: WEB, to: own }, 53, 4000, 'x'))).toEqual([]);
    expect(connector.tun!.take().map(readPacket)).toMatchObject([{ to: WEB, icmpType: 3, icmpCode: 13 }]);
    // An echo request would be a question.
    expect(answered(it, echoRequest({ from: BOX, to: own }, 1, 1))).toEqual([]);
    expect(answered(it, icmpPacket({ from: BOX, to: own }, 0, 0, 0)).length).toBe(1);
    connector.tun!.take();
    expect(answered(it, tcpPacket({ from: WEB, to: '100.64.0.99' }, 80, 4000, ACK))).toEqual([]);
    expect(connector.tun!.take().map(readPacket)).toMatchObject([{ from: '100.64.0.99', to: WEB, flags: RST | ACK }]);
    expect(drops(it)).toMatchObject({ port_not_allowed: 1, destination_not_allowed: 2, no_session: 1 });
  });

  test('a service in the family that it is not served in, or served no longer, says nothing', async () => {
    const it = await live({ web: 'tcp://10.0.0.5:8080', dns: 'udp://10.0.0.5:53', box: 'any://[fd01::6]' });
    const six = it.agent.credentials.identity.overlay6!.toString();
    expect(answered(it, udpPacket({ from: BOX, to: it.own }, 53, 4000, 'x'))).toEqual([]);
    expect(answered(it, udpPacket({ from: BOX6, to: six }, 53, 4000, 'x')).length).toBe(1);
    expect(answered(it, udpPacket({ from: DNS, to: it.own }, 53, 4000, 'x')).length).toBe(1);
    it.connector.backends.delete('dns');
    it.connector.core.backendsChanged(it.world.now, ['dns']);
    expect(answered(it, udpPacket({ from: DNS, to: it.own }, 53, 4000, 'x'))).toEqual([]);
    expect(drops(it)['no_handler']).toBe(2);
    // Of echo, answers only: in IPv6 too.
    expect(answered(it, echoRequest({ from: BOX6, to: six }, 1, 1))).toEqual([]);
    expect(answered(it, icmpPacket({ from: BOX6, to: six }, 129, 0, 0)).length).toBe(1);
  });

  test('later fragments arrive from services of their protocol', async () => {
    const it = await live();
    const part = (from: string, protocol: number) =>
      ipPacket({ from, to: it.own, protocol, body: new Uint8Array(64), fragment: { offset: 64, more: false } });
    expect(answered(it, part(DNS, PROTO.udp)).length).toBe(1);
    expect(answered(it, part(BOX, PROTO.icmp)).length).toBe(1);
    expect(answered(it, part(WEB, PROTO.udp))).toEqual([]);
    expect(answered(it, part(WEB, PROTO.icmp))).toEqual([]);
    expect(drops(it)).toMatchObject({ protocol_not_allowed: 2 });
  });

  test('errors about the agent’s packets to a granted service arrive', async () => {
    const it = await live({ web: 'tcp://10.0.0.5:8080', box: 'any://[fd01::6]' });
    const quote = (to: string) => tcpPacket({ from: it.own, to }, 4000, 80).slice(0, 28);
    const error = (quoted: Uint8Array) => icmpPacket({ from: WEB, to: it.own }, 3, 1, 0, quoted);
    expect(answered(it, error(quote(WEB))).map(readPacket)).toMatchObject([{ icmpType: 3, icmpCode: 1 }]);
    expect(answered(it, error(quote('10.100.0.5')))).toEqual([]);
    expect(answered(it, error(quote(WEB).slice(0, 12)))).toEqual([]);
    // A router on the way speaks for the service: agents know no other.
    const router = icmpPacket({ from: '10.0.0.254', to: it.own }, 11, 0, 0, quote(WEB));
    const [told] = answered(it, router);
    expect(readPacket(told!)).toMatchObject({ from: WEB, icmpType: 11 });
    expect(isIntact(told!)).toBe(true);
    const six = it.agent.credentials.identity.overlay6!.toString();
    const ofSix = udpPacket({ from: six, to: BOX6 }, 4000, 53, 'x');
    const [tooBig] = answered(it, icmpPacket({ from: 'fd01::fe', to: six }, 2, 0, 1300, ofSix));
    expect(readPacket(tooBig!)).toMatchObject({ from: BOX6, icmpType: 2, rest: 1300 });
    expect(isIntact(tooBig!)).toBe(true);
    // About a packet of another agent, to a port that is not the service's, to a service that is not granted.
    const reasons = ['source_not_allowed', 'port_not_allowed', 'destination_not_allowed'] as const;
    const before = reasons.map((reason) => it.connector.core.drops.get(reason));
    expect(answered(it, error(tcpPacket({ from: '100.64.0.99', to: WEB }, 4000, 80).slice(0, 28)))).toEqual([]);
    expect(answered(it, error(tcpPacket({ from: it.own, to: WEB }, 4000, 22).slice(0, 28)))).toEqual([]);
    expect(answered(it, error(quote('10.100.0.5')))).toEqual([]);
    expect(reasons.map((reason, i) => it.connector.core.drops.get(reason) - before[i]!)).toEqual([1, 1, 1]);
    // Redirects are the kernel's own business.
    expect(answered(it, icmpPacket({ from: WEB, to: it.own }, 5, 1, 0, quote(WEB)))).toEqual([]);
  });
});

describe('the end of flows', () => {
  const begun = async () => {
    const it = await live();
    answered(it, tcpPacket({ from: WEB, to: it.own }, 80, 4000, SYN | ACK));
    it.connector.tun!.take();
    return it;
  };
  const resetAtService = (it: Scene & { readonly own: string }): void => {
    const [reset, ...more] = it.connector.tun!.take().map(readPacket);
    expect(reset).toMatchObject({ from: it.own, to: WEB, sourcePort: 4000, port: 80, flags: RST | ACK });
    expect(more).toEqual([]);
  };

  test('a grant that is taken away resets them at the service, and nothing passes any more', async () => {
    const it = await begun();
    it.world.apply({ grants: [{ from: ['group:staff'], to: ['dns'] }] });
    it.world.run(Seconds(1));
    resetAtService(it);
    it.agent.tun!.take();
    expect(answered(it, tcpPacket({ from: WEB, to: it.own }, 80, 4000, ACK))).toEqual([]);
  });

  test('an address that is another service’s now resets them too, though that one is granted', async () => {
    const it = await begun();
    it.world.apply({ services: swapped(it.world.document.services, 'dns', 'box') });
    it.world.run(Seconds(1));
    expect(it.connector.tun!.take()).toEqual([]);
    it.world.apply({ services: swapped(it.world.document.services, 'web', 'pair') });
    it.world.run(Seconds(1));
    resetAtService(it);
  });

  test('so does a session that ends', async () => {
    const it = await begun();
    it.world.apply({ revocations: [it.agent.credentials.identity.invitationId] });
    it.world.run(Seconds(1));
    resetAtService(it);
    expect(it.connector.sessions).toEqual([]);
  });

  test('the end of one agent’s session ends no flow of another', async () => {
    const it = await begun();
    const bob = await it.world.agent('bob', { tun: true });
    expect(it.world.until(() => bob.core.available.has('web'))).toBe(true);
    expect(sent(it.world, bob, it.connector, tcpPacket({ from: overlay(bob), to: WEB }, 4000, 80)).length).toBe(1);
    answered(it, tcpPacket({ from: WEB, to: overlay(bob) }, 80, 4000, SYN | ACK));
    it.world.apply({ revocations: [it.agent.credentials.identity.invitationId] });
    it.world.run(Seconds(1));
    resetAtService(it);
  });

  test('a restarted agent’s new session carries them on', async () => {
    const it = await begun();
    const before = it.connector.sessions[0];
    it.agent.host.kill();
    const again = await it.world.agent('alice', { tun: true }, it.agent.credentials);
    expect(it.world.until(() => again.core.available.has('web'))).toBe(true);
    expect(sent(it.world, again, it.connector, tcpPacket({ from: it.own, to: WEB }, 4000, 80, ACK)).length).toBe(1);
    it.world.run(Seconds(5));
    expect(it.connector.sessions.length).toBe(1);
    expect(it.connector.sessions[0]).not.toBe(before);
    expect(it.connector.tun!.take()).toEqual([]);
    again.tun!.take();
    it.connector.tun!.send(tcpPacket({ from: WEB, to: it.own }, 80, 4000, ACK));
    it.world.run(Seconds(1));
    expect(again.tun!.take().length).toBe(1);
  });

  test('so does a connector that stops, at both ends', async () => {
    const it = await begun();
    it.agent.tun!.take();
    it.connector.core.shutdown(it.world.now);
    it.connector.host.reactor.wake();
    it.world.run(Seconds(1));
    resetAtService(it);
    expect(it.agent.tun!.take().map(readPacket)).toMatchObject([{ from: WEB, port: 4000, flags: RST | ACK }]);
  });

  test('without a link the service is told that there is none for now', async () => {
    const it = await begun();
    it.agent.host.kill();
    for (const link of it.connector.sessions[0]!.links) link.connection.close(it.world.now, 0, 'test');
    it.world.run(Seconds(1));
    it.connector.tun!.send(tcpPacket({ from: WEB, to: it.own }, 80, 4000, ACK));
    it.world.run(Seconds(1));
    expect(it.connector.tun!.take().map(readPacket)).toMatchObject([{ to: WEB, icmpType: 3, icmpCode: 0 }]);
    expect(drops(it)['no_link']).toBe(1);
  });
});

test('a packet that its link does not carry is answered with the size that fits', async () => {
  const it = await kernelScene();
  it.connector.host.path.maxPayload = 1300;
  const own = overlay(it.agent);
  expect(sent(it.world, it.agent, it.connector, udpPacket({ from: own, to: DNS }, 5000, 53, 'x')).length).toBe(1);
  const large = udpPacket({ from: DNS, to: own }, 53, 5000, pattern(1372));
  // A young link carries it in parts.
  expect(answered(it, large).map((one) => one.length)).toEqual([1400]);
  // Until size discovery has made up its mind.
  it.world.run(Seconds(10));
  it.connector.tun!.take();
  expect(answered(it, large)).toEqual([]);
  const [told] = it.connector.tun!.take().map(readPacket);
  expect(told).toMatchObject({ from: own, to: DNS, icmpType: 3, icmpCode: 4 });
  expect(told!.rest & 0xffff).toBeGreaterThanOrEqual(1280);
});

test('whatever an agent sends, the kernel gets nothing but its own packets to its services', async () => {
  const it = await live();
  const { node, link } = await hostileLink(it.world);
  const mine = node.credentials.identity!.overlay4!.toString();
  const say = (packet: Uint8Array): void => {
    link.connection.sendDatagram(packet);
    node.host.reactor.wake();
    it.world.settle();
  };
  it.connector.tun!.take();
  // Another agent's address; a service of another group, with its real address too; other ports; questions to the host itself.
  say(udpPacket({ from: it.own, to: DNS }, 4000, 53, 'forged'));
  say(tcpPacket({ from: mine, to: '10.100.0.5' }, 4000, 5432));
  say(tcpPacket({ from: mine, to: '10.0.0.5' }, 4000, 8080));
  say(tcpPacket({ from: mine, to: WEB }, 4000, 22));
  say(udpPacket({ from: mine, to: it.own }, 4000, 53, 'neighbour'));
  say(udpPacket({ from: mine, to: '127.0.0.1' }, 4000, 53, 'host'));
  const address = fc.constantFrom(mine, it.own, WEB, BOX, '10.100.0.5', '127.0.0.1');
  const body = fc.uint8Array({ maxLength: 120 });
  const shaped = fc
    .record({
      from: address,
      to: address,
      protocol: fc.constantFrom(1, 2, 6, 17, 58),
      body,
      more: fc.boolean(),
      at: fc.nat(3),
    })
    .map(({ more, at, ...rest }) => ipPacket({ ...rest, fragment: { more, offset: at * 8 } }));
  fc.assert(fc.property(fc.oneof(shaped, fc.uint8Array({ minLength: 1, maxLength: 120 })), say), { numRuns: 400 });
  it.world.run(Seconds(1));
  const services = new Set([WEB, DNS, BOX, '10.100.0.4']);
  for (const { from, to, parsed } of it.connector.tun!.take().map(parse)) {
    expect(from).toBe(mine);
    expect(services).toContain(to);
    if (to === WEB && parsed.fragmentOffset === 0) expect([parsed.protocol, parsed.destinationPort]).toEqual([6, 80]);
  }
  const good = udpPacket({ from: it.own, to: DNS }, 5000, 53, 'still served');
  expect(sent(it.world, it.agent, it.connector, good).length).toBe(1);
});

test('whatever the kernel sends, an agent gets nothing but packets of its services to itself', async () => {
  const it = await live();
  const from = fc.constantFrom(WEB, DNS, BOX, '10.100.0.5', '10.0.0.5', '127.0.0.1', '100.64.0.99');
  const to = fc.constantFrom(it.own, '100.64.0.99', '255.255.255.255', '10.100.0.1');
  const body = fc.uint8Array({ maxLength: 120 });
  const shaped = fc
    .record({ from, to, protocol: fc.constantFrom(1, 2, 6, 17, 58, 255), body, more: fc.boolean(), offset: fc.nat(3) })
    .map(({ more, offset, ...rest }) => ipPacket({ ...rest, fragment: { more, offset: offset * 8 } }));
  const header = fc.uint8Array({ minLength: 10, maxLength: 10 });
  fc.assert(
    fc.property(fc.oneof(shaped, body), fc.option(header, { nil: undefined }), (packet, given) => {
      it.connector.tun!.send(packet, given);
      it.world.settle();
    }),
    { numRuns: 400 },
  );
  it.world.run(Seconds(1));
  const services = new Set([WEB, DNS, BOX]);
  for (const { from, to } of it.agent.tun!.take().map(parse)) {
    expect(services).toContain(from);
    expect(to).toBe(it.own);
  }
  expect(answered(it, tcpPacket({ from: WEB, to: it.own }, 80, 4000, ACK)).length).toBe(1);
});
