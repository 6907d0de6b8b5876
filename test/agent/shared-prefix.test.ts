/** Services of several connectors on one real prefix: protocol and port say which is meant, both ways. */
import { expect, test } from 'vitest';
import { FragmentTrail } from '../../src/agent/flow-head.js';
import { Seconds } from '../../src/base/time.js';
import type { PolicyDocument } from '../../src/policy/document.js';
import { ready } from '../connector/fixtures.js';
import { App } from '../support/app.js';
import { readPacket, udpPacket } from '../support/packets.js';
import { World } from '../support/world.js';

type Entry = PolicyDocument['services'][number];
const on = (id: string, prefix: string, protocol: 'tcp' | 'udp', port: number, connector: string): Entry => {
  return { id, protocols: [protocol], ports: [[port, port]], target: 'cidr', prefix, connectors: [connector] };
};
const V4 = '10.9.0.0/24';
const V6 = 'fd09::/64';
const SERVICES = [
  on('web', V4, 'tcp', 80, 'c1'),
  on('api', V4, 'tcp', 81, 'c2'),
  on('names', V4, 'udp', 53, 'c1'),
  on('time', V4, 'udp', 123, 'c2'),
  on('names6', V6, 'udp', 53, 'c1'),
  on('time6', V6, 'udp', 123, 'c2'),
];

async function scene(tun: boolean) {
  const grants = [{ from: ['group:staff'], to: ['*'] }];
  const world = await World.create({ policy: { services: SERVICES, grants } });
  const prefixOf = (prefix: string) => (prefix.includes(':') ? prefix.replace(/(.*)\//, '[$1]/') : prefix);
  const backends = (name: string) =>
    Object.fromEntries(
      SERVICES.filter(({ connectors }) => connectors[0] === name).map(({ id, protocols, prefix, ports }) => {
        return [id, `${protocols[0]}://${prefixOf(prefix!)}:${(ports as [number, number][])[0]![0]}`];
      }),
    );
  const connectors = [
    await world.connector('c1', { services: backends('c1') }),
    await world.connector('c2', { services: backends('c2') }),
  ] as const;
  const agent = await world.agent('alice', { tun });
  expect(world.until(() => connectors.every(ready) && SERVICES.every(({ id }) => agent.core.available.has(id)))).toBe(
    true,
  );
  return { world, agent, connectors };
}

/** A datagram's packet in two fragments; the second begins after `bytes` of the first one's payload. */
function halves(packet: Uint8Array, identification: number, bytes = 512): [Uint8Array, Uint8Array] {
  const isV4 = packet[0]! >>> 4 === 4;
  const header = isV4 ? 20 : 40;
  const part = (from: number, to: number, isLast: boolean): Uint8Array => {
    const extra = isV4 ? 0 : 8;
    const made = new Uint8Array(header + extra + to - from);
    const view = new DataView(made.buffer);
    made.set(packet.subarray(0, header));
    made.set(packet.subarray(header + from, header + to), header + extra);
    if (isV4) {
      view.setUint16(2, made.length);
      view.setUint16(4, identification);
      view.setUint16(6, (isLast ? 0 : 0x2000) | (from >> 3));
      view.setUint16(10, 0);
      let sum = 0;
      for (let i = 0; i < header; i += 2) sum += view.getUint16(i);
      view.setUint16(10, ~(sum % 0xffff) & 0xffff);
    } else {
      view.setUint16(4, made.length - header);
      made[6] = 44;
      made[40] = packet[6]!;
      view.setUint16(42, from | (isLast ? 0 : 1));
      view.setUint32(44, identification);
    }
    return made;
  };
  return [part(0, bytes, false), part(bytes, packet.length - header, true)];
}

test('a program reaches each by its port over the agent’s own stack', async () => {
  const { world, agent, connectors } = await scene(false);
  for (const connector of connectors)
    for (const port of [80, 81]) connector.host.sockets.tcpBackend(`10.9.0.5:${port}`);
  const apps = [80, 81].map((port) => new App(agent, `10.9.0.5:${port}`));
  expect(world.until(() => apps.every((app) => app.connected), Seconds(10))).toBe(true);
  expect(connectors.map(({ host }) => host.sockets.streams.map(({ to }) => to.toString()))).toEqual([
    ['10.9.0.5:80'],
    ['10.9.0.5:81'],
  ]);
});

test('datagrams of the host, whole and in fragments of both families, and their answers', async () => {
  const { world, agent, connectors } = await scene(true);
  const own = agent.credentials.identity;
  const targets = [53, 123].flatMap((port) => ['10.9.0.5', 'fd09::5'].map((to) => ({ to, port })));
  const addressOf = ({ to, port }: { to: string; port: number }) =>
    to.includes(':') ? `[${to}]:${port}` : `${to}:${port}`;
  const packets = targets.map(({ to, port }, index) => {
    const from = (to.includes(':') ? own.overlay6 : own.overlay4)!.toString();
    return udpPacket({ from, to }, 4000 + index, port, new Uint8Array(1000).fill(index + 1));
  });
  const flowOf = (target: (typeof targets)[number]) =>
    connectors[target.port === 53 ? 0 : 1].host.sockets.udpBackend(addressOf(target)).flows;
  for (const target of targets) flowOf(target);

  // The fragments of all four are on their way at once.
  const cut = packets.map((packet, index) => halves(packet, 900 + ((index ^ (index >> 1)) & 1)));
  for (const [first] of cut) agent.tun!.send(first);
  for (const [, second] of cut) agent.tun!.send(second);
  for (const packet of packets) agent.tun!.send(packet);
  const sentTo = () =>
    targets.map((target) => flowOf(target).flatMap(({ sent }) => sent.map((bytes) => [bytes.length, bytes[999]])));
  world.until(() => sentTo().every((sent) => sent.length === 2), Seconds(10));
  expect(sentTo()).toEqual(
    targets.map((_, index) => [
      [1000, index + 1],
      [1000, index + 1],
    ]),
  );
  expect(connectors.map(({ host }) => host.sockets.flows.length)).toEqual([2, 2]);

  agent.tun!.take();
  for (const [index, target] of targets.entries()) flowOf(target)[0]!.reply(Uint8Array.of(index));
  for (const { host } of connectors) host.reactor.wake();
  const answers: string[] = [];
  world.until(() => {
    answers.push(...agent.tun!.take().map((packet) => `${readPacket(packet).from} ${packet.at(-1)}`));
    return answers.length === targets.length;
  }, Seconds(5));
  expect(answers.sort()).toEqual(targets.map(({ to }, index) => `${to} ${index}`).sort());
});

test('sixteen datagrams in fragments are remembered, the newest under one identification', () => {
  const trail = new FragmentTrail<number>();
  for (let i = 0; i < 17; i++) trail.note(i, i);
  trail.note(5, 50);
  expect([0, 1, 2, 5, 16].map((datagram) => trail.find(datagram))).toEqual([undefined, undefined, 2, 50, 16]);
});
