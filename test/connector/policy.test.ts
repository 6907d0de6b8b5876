/** Sessions over time: lost links, changed policies, expired certificates, the connector's own end. */
import { expect, test } from 'vitest';
import { Days, Minutes, Seconds } from '../../src/base/time.js';
import { App, pattern } from '../support/app.js';
import { tcpPacket, udpPacket } from '../support/packets.js';
import { BACKEND, connected, scene, swapped, WEB } from './fixtures.js';

test('a link that is lost and made again in mid-transfer: the session is resumed, its flow loses nothing', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  app.say(pattern(8_000_000));
  stream.say(pattern(4_000_000, 2));
  it.world.until(() => stream.receivedBytes > 1_000_000);
  const session = it.agent.session('c1')!;
  const before = session.link!;
  before.connection.close(it.world.now, 0, 'test');
  it.agent.host.reactor.wake();
  expect(it.world.until(() => session.isLive && session.link !== before, Seconds(5))).toBe(true);
  expect(session.transition.reason).toBe('resumed');
  expect(it.world.until(() => stream.receivedBytes === 8_000_000 && app.receivedBytes === 4_000_000, Seconds(20))).toBe(
    true,
  );
  expect(Buffer.compare(stream.received, pattern(8_000_000))).toBe(0);
  expect(Buffer.compare(app.received, pattern(4_000_000, 2))).toBe(0);
  expect(it.connector.eventsOf('session-resumed').length).toBe(1);
  expect(it.connector.host.sockets.streams.length).toBe(1);
});

test('a session without a link is kept for 30 min, then its flows are reset', async () => {
  const it = await scene();
  const { stream } = connected(it);
  it.agent.host.kill();
  it.world.run(Minutes(25));
  expect(it.connector.sessions.length).toBe(1);
  expect(it.connector.sessions[0]!.links.size).toBe(0);
  expect(stream.closed).toBeUndefined();
  it.world.run(Minutes(8));
  expect(it.connector.sessions).toEqual([]);
  expect(stream.closed).toBe('abort');
});

test('a policy that takes a service away ends its flows and leaves the others', async () => {
  const it = await scene({ agent: { tun: false } });
  const web = connected(it);
  const pair = connected(it, '10.100.0.4:80', '10.0.0.7:7000');
  it.world.apply({ grants: [{ from: ['group:staff'], to: ['pair'] }] });
  expect(it.world.until(() => web.stream.closed !== undefined, Seconds(2))).toBe(true);
  expect(web.stream.closed).toBe('abort');
  expect(pair.stream.closed).toBeUndefined();
  pair.app.say('still here');
  expect(it.world.until(() => pair.stream.text() === 'still here', Seconds(1))).toBe(true);
  expect([...it.agent.session('c1')!.services]).toEqual(['pair']);
  // And a new flow is not even begun.
  const again = new App(it.agent, WEB);
  it.world.run(Seconds(5));
  expect(again.connected).toBe(false);
  expect(it.connector.host.sockets.tcpBackend(BACKEND).streams.length).toBe(1);
});

test('UDP flows end with their grant', async () => {
  const it = await scene({ agent: { tun: true } });
  it.connector.host.sockets.udpBackend('10.0.0.5:5353');
  const from = it.agent.credentials.identity.overlay4!.toString();
  it.agent.tun!.send(udpPacket({ from, to: '10.100.0.2' }, 4000, 53, 'x'));
  expect(it.world.until(() => it.connector.host.sockets.flows.length === 1)).toBe(true);
  it.world.apply({ grants: [{ from: ['group:staff'], to: ['web'] }] });
  expect(it.world.until(() => it.connector.host.sockets.flows[0]!.isClosed, Seconds(2))).toBe(true);
});

test('a virtual address that is another service’s now ends the flows of the one before, though both are granted', async () => {
  const it = await scene({ agent: { tun: true } });
  const own = it.agent.credentials.identity.overlay4!.toString();
  const { sockets } = it.connector.host;
  sockets.tcpBackend(BACKEND);
  it.agent.tun!.send(tcpPacket({ from: own, to: '10.100.0.1' }, 4000, 80));
  it.agent.tun!.send(udpPacket({ from: own, to: '10.100.0.3' }, 4000, 53, 'x'));
  expect(it.world.until(() => sockets.streams.length === 1 && sockets.flows.length === 1)).toBe(true);
  it.world.apply({ services: swapped(it.world.document.services, 'web', 'pair') });
  it.world.apply({ services: swapped(it.world.document.services, 'dns', 'box') });
  expect(it.world.until(() => sockets.streams[0]!.closed !== undefined && sockets.flows[0]!.isClosed, Seconds(2))).toBe(
    true,
  );
  it.world.run(Seconds(1));
  it.agent.tun!.send(udpPacket({ from: own, to: '10.100.0.3' }, 4000, 53, 'x'));
  expect(it.world.until(() => sockets.flows.length === 2, Seconds(2))).toBe(true);
  expect(sockets.flows[1]!.isClosed).toBe(false);
});

test('narrower ports end the flows on the others', async () => {
  const it = await scene();
  const one = connected(it, '10.100.0.3:1000', '10.0.0.6:1000');
  const two = connected(it, '10.100.0.3:2000', '10.0.0.6:2000');
  it.world.apply({ grants: [{ from: ['group:staff'], to: ['box'], ports: [[2000, 2000]] }] });
  expect(it.world.until(() => one.stream.closed !== undefined, Seconds(2))).toBe(true);
  it.world.run(Seconds(2));
  expect(two.stream.closed).toBeUndefined();
});

test('a revoked agent’s session ends at once, with the relay’s help or without', async () => {
  const it = await scene();
  const { stream } = connected(it);
  const { invitationId } = it.agent.credentials.identity;
  const signed = it.world.operator.sign({ ...it.world.document, version: 7, revocations: [invitationId] });
  // The relay has not heard of it: the connector’s own copy decides.
  it.connector.core.offerPolicy(it.world.now, signed.envelope);
  it.connector.host.reactor.wake();
  expect(it.world.until(() => stream.closed !== undefined, Seconds(1))).toBe(true);
  expect(it.connector.sessions).toEqual([]);
  it.world.run(Seconds(10));
  expect(it.connector.sessions).toEqual([]);
  expect(it.connector.eventsOf('link-refused').at(-1)).toMatchObject({ agent: 'alice', code: 'INVITATION_REVOKED' });
});

test('when the policy has ended nothing new is admitted, and what lives ends at the next look', async () => {
  const it = await scene();
  connected(it);
  it.world.clock.ahead = Days(6);
  const ends = it.world.clock.wall - 1000;
  const signed = it.world.operator.sign({ ...it.world.document, version: 7, notAfter: ends - 86_400_000 });
  it.connector.core.offerPolicy(it.world.now, signed.envelope);
  it.connector.host.reactor.wake();
  it.world.run(Minutes(2));
  const app = new App(it.agent, WEB);
  it.world.run(Seconds(20));
  expect(app.connected).toBe(false);
  expect(it.connector.eventsOf('link-refused').at(-1)).toMatchObject({ code: 'POLICY_EXPIRED' });
});

test('links end with the certificates they were made with', async () => {
  const it = await scene();
  const { app } = connected(it);
  it.world.clock.ahead = Days(6.9);
  it.world.run(Seconds(5));
  app.say('last words');
  it.world.run(Seconds(5));
  expect(it.agent.session('c1')!.isLive).toBe(true);
  it.world.clock.ahead = Days(7.1);
  it.world.run(Seconds(5));
  expect(it.agent.session('c1')?.isLive ?? false).toBe(false);
  expect(it.agent.core.relay.state).not.toBe('ready');
  expect(it.world.relay.core.registry.size).toBe(0);
});

test('a certificate that ends in mid-session: the session goes on with the renewed one, and without one says why', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  it.world.clock.ahead = Days(6.5);
  it.world.run(Seconds(5));
  const wall = it.world.clock.wall;
  for (const node of [it.connector, it.agent, it.world.relay]) {
    const { role, name, keyPem } = node.credentials;
    const certificate = await it.world.operator.certify(role, name, keyPem, wall);
    // The agent's own renewal fails for now.
    if (node === it.agent) continue;
    const endpoints =
      node === it.connector ? [it.connector.endpoints.relay, it.connector.endpoints.links] : [it.world.relay.endpoint];
    for (const endpoint of endpoints) endpoint.setIdentity(certificate, keyPem);
  }
  it.world.clock.ahead = Days(7.1);
  it.world.run(Seconds(20));
  expect(it.agent.session('c1')?.isLive ?? false).toBe(false);
  expect(it.agent.core.relay.lastProblem).toMatch(/certificate/);
  expect(it.agent.core.relay.lastProblem).toMatch(/clock/);
  stream.say('still wanted');

  const { role, name, keyPem } = it.agent.credentials;
  const renewed = await it.world.operator.certify(role, name, keyPem, it.world.clock.wall);
  for (const endpoint of [it.agent.endpoints.relay, it.agent.endpoints.links]) endpoint.setIdentity(renewed, keyPem);
  expect(it.world.until(() => app.text() === 'still wanted', Seconds(40))).toBe(true);
  expect(it.connector.eventsOf('session-opened').length).toBe(1);
  expect(it.connector.eventsOf('session-resumed').length).toBeGreaterThan(0);
});

test('a connector that stops resets its flows and leaves the agent at once', async () => {
  const it = await scene();
  const { app, stream } = connected(it);
  it.connector.core.shutdown(it.world.now);
  it.connector.host.reactor.wake();
  expect(it.world.until(() => app.closed !== undefined, Seconds(1))).toBe(true);
  expect(stream.closed).toBe('abort');
  it.world.run(Seconds(1));
  expect(it.world.relay.core.registry.connector('c1')).toBeUndefined();
  expect(it.world.relay.channels).toBe(0);
});

test('an agent that stops leaves nothing behind', async () => {
  const it = await scene();
  const { stream } = connected(it);
  it.agent.core.shutdown(it.world.now);
  it.agent.host.reactor.wake();
  expect(it.world.until(() => stream.closed !== undefined && it.connector.sessions.length === 0, Seconds(2))).toBe(
    true,
  );
  it.world.run(Seconds(1));
  expect(it.world.relay.core.registry.agent('alice')).toBeUndefined();
  expect(it.world.relay.channels).toBe(0);
  // Beside its UDP sockets the connector watches nothing.
  expect(it.connector.host.reactor.watched).toBe(it.connector.udp.length);
});
