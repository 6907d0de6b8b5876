/** UDP flows and echo through a TUN agent, relay and connector: one socket per flow, ends of flows, caps. */
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { Seconds } from '../../src/base/time.js';
import { DEFAULT_FLOW_LIMITS } from '../../src/engine/flow-options.js';
import { pattern } from '../support/app.js';
import { echoRequest, PROTO, readPacket, udpPacket } from '../support/packets.js';
import { type Scene, scene } from './fixtures.js';

const BACKEND = '10.0.0.5:5353';
const DNS = '10.100.0.2';
const BOX = '10.100.0.3';
const tunScene = (connector = {}): Promise<Scene> => scene({ agent: { tun: true }, connector });
const ends = ({ agent }: Scene, to = DNS) => ({ from: agent.credentials.identity.overlay4!.toString(), to });
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

test('a datagram reaches the backend, the answer comes from the address that was asked', async () => {
  const it = await tunScene();
  const backend = it.connector.host.sockets.udpBackend(BACKEND);
  backend.onDatagram = (flow, bytes) => flow.reply(new TextEncoder().encode(`re: ${text(bytes)}`));
  it.agent.tun!.send(udpPacket(ends(it), 4000, 53, 'who?'));
  expect(it.world.until(() => it.agent.tun!.delivered.length === 1)).toBe(true);
  const answer = readPacket(it.agent.tun!.take()[0]!);
  expect(answer).toMatchObject({ from: DNS, sourcePort: 53, to: ends(it).from, port: 4000 });
  expect(text(answer.data)).toBe('re: who?');
});

test('the packets that open a session wait for it, up to 64', async () => {
  const it = await tunScene();
  const backend = it.connector.host.sockets.udpBackend(BACKEND);
  for (let i = 0; i < 100; i++) it.agent.tun!.send(udpPacket(ends(it), 4000, 53, `n ${i}`));
  expect(it.world.until(() => (backend.flows[0]?.sent.length ?? 0) >= 64)).toBe(true);
  it.world.run(Seconds(1));
  expect(backend.flows[0]!.sent.map(text)).toEqual(Array.from({ length: 64 }, (_, i) => `n ${i}`));
  expect(it.agent.core.drops.get('no_session')).toBe(36);
});

test('answers never reach another flow or another agent', async () => {
  const it = await tunScene();
  const bob = await it.world.agent('bob', { tun: true });
  it.world.until(() => bob.core.available.has('dns'));
  const backend = it.connector.host.sockets.udpBackend(BACKEND);
  const from = (agent: typeof bob): string => agent.credentials.identity.overlay4!.toString();
  for (const agent of [it.agent, bob]) {
    for (const port of [4000, 4001])
      agent.tun!.send(udpPacket({ from: from(agent), to: DNS }, port, 53, `${agent.name} ${port}`));
  }
  expect(
    it.world.until(() => backend.flows.length === 4 && backend.flows.every((flow) => flow.sent.length === 1)),
  ).toBe(true);
  // The backend answers in another order, and late.
  it.world.run(Seconds(5));
  for (const flow of [...backend.flows].reverse()) flow.reply(flow.sent[0]!);
  expect(it.world.until(() => it.agent.tun!.delivered.length + bob.tun!.delivered.length === 4)).toBe(true);
  for (const agent of [it.agent, bob]) {
    const seen = agent.tun!.take().map(readPacket);
    expect(seen.map(({ port, data }) => [port, text(data)]).sort()).toEqual(
      [4000, 4001].map((port) => [port, `${agent.name} ${port}`]),
    );
    expect(seen.every(({ to }) => to === from(agent))).toBe(true);
  }
});

test('a closed port is told as such', async () => {
  const it = await tunScene();
  const send = (): void => it.agent.tun!.send(udpPacket(ends(it), 4000, 53, 'anybody?'));
  send();
  it.world.run(Seconds(1));
  send();
  it.world.run(Seconds(1));
  const answers = it.agent.tun!.take().map(readPacket);
  // The kernel tells of it once per ICMP error: which of the calls hears it, is its choice.
  expect(answers.every((one) => one.protocol === PROTO.icmp && one.icmpType === 3 && one.icmpCode === 3)).toBe(true);
  expect(it.connector.core.flowCounters.get('udp_send_fail')).toBeGreaterThan(0);
});

test('a large datagram comes whole, either way', async () => {
  const it = await tunScene();
  const backend = it.connector.host.sockets.udpBackend(BACKEND);
  backend.onDatagram = (flow, bytes) => flow.reply(bytes);
  const data = pattern(1300);
  it.agent.tun!.send(udpPacket(ends(it), 4000, 53, data));
  expect(it.world.until(() => it.agent.tun!.delivered.length === 1)).toBe(true);
  expect(Buffer.compare(backend.flows[0]!.sent[0]!, data)).toBe(0);
  expect(Buffer.compare(readPacket(it.agent.tun!.take()[0]!).data, data)).toBe(0);
});

test('a flow ends 120 s after its last packet, 60 s when nothing was ever answered', async () => {
  const it = await tunScene();
  const { sockets } = it.connector.host;
  const backend = sockets.udpBackend('10.0.0.6:5000');
  backend.onDatagram = (flow, bytes) => {
    if (text(bytes) === 'answer me') flow.reply(bytes);
  };
  it.agent.tun!.send(udpPacket(ends(it, BOX), 4000, 5000, 'answer me'));
  it.agent.tun!.send(udpPacket(ends(it, BOX), 4001, 5000, 'ignore me'));
  it.world.run(Seconds(55));
  expect(sockets.flows.map((flow) => flow.isClosed)).toEqual([false, false]);
  it.world.run(Seconds(12));
  expect(sockets.flows.map((flow) => flow.isClosed)).toEqual([false, true]);
  it.world.run(Seconds(48));
  expect(sockets.flows.map((flow) => flow.isClosed)).toEqual([false, true]);
  it.world.run(Seconds(12));
  expect(sockets.flows.map((flow) => flow.isClosed)).toEqual([true, true]);
  expect(it.connector.core.flowCounters.get('udp_expired')).toBe(2);
});

test('a flow with a name server ends after 10 s', async () => {
  const it = await tunScene();
  const { sockets } = it.connector.host;
  sockets.udpBackend(BACKEND).onDatagram = (flow, bytes) => flow.reply(bytes);
  it.agent.tun!.send(udpPacket(ends(it), 4000, 53, 'who?'));
  it.world.run(Seconds(9));
  expect(sockets.flows.map((flow) => flow.isClosed)).toEqual([false]);
  it.world.run(Seconds(7));
  expect(sockets.flows.map((flow) => flow.isClosed)).toEqual([true]);
});

test('flows above the cap are not taken and counted; others go on', async () => {
  const limits = { ...DEFAULT_FLOW_LIMITS, udpFlows: 3, tcpFlows: 2 };
  const it = await tunScene({ limits });
  const backend = it.connector.host.sockets.udpBackend(BACKEND);
  for (let port = 4000; port < 4010; port++) it.agent.tun!.send(udpPacket(ends(it), port, 53, 'x'));
  it.world.run(Seconds(1));
  expect(backend.flows.length).toBe(3);
  expect(it.connector.core.flowCounters.get('udp_admission_fail')).toBe(7);
  it.agent.tun!.send(udpPacket(ends(it), 4001, 53, 'still'));
  it.world.run(Seconds(1));
  expect(backend.flows[1]!.sent.length).toBe(2);
});

test('new flows are measured: a burst, then a rate', async () => {
  const it = await tunScene({ limits: { ...DEFAULT_FLOW_LIMITS, newFlowRate: 5, newFlowBurst: 10 } });
  const backend = it.connector.host.sockets.udpBackend(BACKEND);
  for (let port = 4000; port < 4050; port++) it.agent.tun!.send(udpPacket(ends(it), port, 53, 'x'));
  it.world.run(Seconds(1));
  expect(backend.flows.length).toBe(10);
  expect(it.connector.core.flowCounters.get('flow_rate_limited')).toBe(40);
  it.world.run(Seconds(1));
  for (let port = 5000; port < 5050; port++) it.agent.tun!.send(udpPacket(ends(it), port, 53, 'x'));
  it.world.run(Seconds(0.5));
  expect(backend.flows.length).toBeGreaterThanOrEqual(19);
  expect(backend.flows.length).toBeLessThanOrEqual(20);
});

test('echo goes on to the backend and comes back with the client’s own identifier', async () => {
  const it = await tunScene();
  const data = pattern(56);
  it.agent.tun!.send(echoRequest(ends(it, BOX), 0x1234, 7, data));
  expect(it.world.until(() => it.agent.tun!.delivered.length === 1)).toBe(true);
  const reply = readPacket(it.agent.tun!.take()[0]!);
  expect(reply).toMatchObject({ from: BOX, icmpType: 0, rest: 0x1234_0007 });
  expect(Buffer.compare(reply.data, data)).toBe(0);
  expect(it.connector.core.flowCounters.snapshot()).toMatchObject({
    echo_requests: 1,
    echo_replies: 1,
    echo_opened: 1,
  });
});

test('an echo answer from elsewhere is nobody’s', async () => {
  const it = await tunScene();
  it.agent.tun!.send(echoRequest(ends(it, BOX), 1, 1));
  it.world.until(() => it.agent.tun!.delivered.length === 1);
  it.agent.tun!.take();
  it.connector.host.sockets.echoes[0]!.answer(SocketAddress.parse('10.0.0.99:0')!, 2, pattern(8));
  it.world.run(Seconds(1));
  expect(it.agent.tun!.take()).toEqual([]);
});

test('where ICMP sockets are refused the connector answers itself, and says so', async () => {
  const it = await tunScene();
  it.connector.host.sockets.permitsEcho = false;
  it.agent.tun!.send(echoRequest(ends(it, BOX), 9, 3, pattern(20)));
  expect(it.world.until(() => it.agent.tun!.delivered.length === 1)).toBe(true);
  expect(readPacket(it.agent.tun!.take()[0]!)).toMatchObject({ from: BOX, icmpType: 0, rest: 0x0009_0003 });
  expect(it.connector.sessions[0]!.flows.echo.answersHere).toBe(true);
  expect(it.connector.core.flowCounters.get('echo_answered_here')).toBe(1);
});

test('echo needs a grant of its own: a TCP service is not pinged', async () => {
  const it = await tunScene();
  it.agent.tun!.send(echoRequest(ends(it, '10.100.0.1'), 9, 3));
  it.world.run(Seconds(1));
  expect(it.agent.tun!.take().map(readPacket)).toMatchObject([{ icmpType: 3, icmpCode: 13 }]);
  expect(it.connector.sessions).toEqual([]);
});
