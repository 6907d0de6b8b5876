/** Who gets through the handshake and who does not. */
import { beforeAll, describe, expect, it } from 'vitest';
import { Millis, Seconds, wallAt } from '../../src/base/time.js';
import { CloseCode } from '../../src/quic/close.js';
import {
  authority,
  type Certificates,
  certificates,
  makeNet,
  type Net,
  type Recorder,
  SERVER_NAME,
  text,
  utf8,
  WALL,
  write,
} from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

/** RFC 9001 §4.8: 0x100 + the alert of RFC 8446 §6. */
const ALERT = {
  badCertificate: 0x12a,
  unsupportedCertificate: 0x12b,
  certificateExpired: 0x12d,
  unknownCa: 0x130,
  certificateRequired: 0x174,
  noApplicationProtocol: 0x178,
};
const DAY = 86_400_000;

function attempt(net: Net, name?: string): Recorder {
  const { handler } = net.connect(name);
  net.run(Seconds(1));
  return handler;
}

/** The server never took the connection, and nothing of it is left in flight. */
function expectNothing(net: Net, accepted = 1): void {
  net.run(Seconds(30));
  expect(net.accepted).toHaveLength(0);
  const counters = net.server.endpoint.counters();
  expect(counters).toMatchObject({ accepted, connected: 0, handshakes: 0, sources: 0, connections: 0 });
}

describe('handshake', () => {
  it('connects both ends, each with the certificate of the other, and carries datagrams both ways', () => {
    const net = makeNet(certs);
    const { client, server, clientSide, serverSide } = net.establish();
    expect(client.peerCertificates).toHaveLength(1);
    expect(server.peerCertificates).toHaveLength(1);
    expect(server.peerCertificates[0]).not.toEqual(client.peerCertificates[0]);
    expect(server.remote.toString()).toBe(net.client.address.toString());
    expect(write(net, net.client.endpoint, client, [utf8('one'), utf8('three'), utf8('')])).toBe(3);
    expect(server.sendDatagram(utf8('back'))).toBe(true);
    net.run(Millis(50));
    expect(serverSide.datagrams.map(text)).toEqual(['one', 'three', '']);
    expect(clientSide.datagrams.map(text)).toEqual(['back']);
    client.close(net.now, 7, 'enough');
    net.run(Seconds(1));
    expect(serverSide.closed).toEqual([{ kind: 'peer-application', code: 7, text: 'enough' }]);
    expect(clientSide.closed).toEqual([{ kind: 'local', code: 7, text: 'closed here' }]);
    expect(net.server.endpoint.counters()).toMatchObject({ connections: 0 });
    expect(net.client.endpoint.counters()).toMatchObject({ connections: 0 });
  });

  it('refuses a client without a certificate', () => {
    const net = makeNet(certs, { client: { identity: undefined } });
    expect(attempt(net).closed).toMatchObject([{ kind: 'peer-transport', code: ALERT.certificateRequired }]);
    expectNothing(net);
  });

  it('refuses a client whose certificate another CA signed', async () => {
    const other = await authority('other');
    const net = makeNet(certs, { client: { identity: await other.issue('client.test', ['client']) } });
    const handler = attempt(net);
    expect(handler.closed).toMatchObject([{ kind: 'peer-transport', code: ALERT.unknownCa }]);
    expectNothing(net);
  });

  it('refuses a server whose certificate another CA signed', async () => {
    const other = await authority('other');
    const net = makeNet(certs, { server: { identity: await other.issue(SERVER_NAME, ['server']) } });
    const handler = attempt(net);
    expect(handler.connected).toHaveLength(0);
    expect(handler.closed).toMatchObject([{ kind: 'transport', code: ALERT.unknownCa }]);
    expectNothing(net);
  });

  it('refuses a server of another name', () => {
    const net = makeNet(certs);
    const handler = attempt(net, 'evil.test');
    expect(handler.connected).toHaveLength(0);
    expect(handler.closed).toMatchObject([{ kind: 'transport', code: ALERT.badCertificate }]);
    expectNothing(net);
  });

  it('refuses a server certificate used by a client, and a client certificate used by a server', async () => {
    const asClient = makeNet(certs, { client: { identity: certs.server } });
    expect(attempt(asClient).closed).toMatchObject([{ kind: 'peer-transport', code: ALERT.unsupportedCertificate }]);
    expectNothing(asClient);
    const asServer = makeNet(certs, { server: { identity: await certs.ca.issue(SERVER_NAME, ['client']) } });
    const handler = attempt(asServer);
    expect(handler.connected).toHaveLength(0);
    expect(handler.closed).toMatchObject([{ kind: 'transport', code: ALERT.unsupportedCertificate }]);
    expectNothing(asServer);
  });

  it('closes a connection whose certificate names no key usage, which TLS alone lets pass', async () => {
    const net = makeNet(certs, { client: { identity: await certs.ca.issue('client.test', []) } });
    const handler = attempt(net);
    expect(net.accepted).toHaveLength(0);
    expect(handler.closed).toMatchObject([{ kind: 'peer-application', code: CloseCode.keyUsage }]);
    expect(net.server.endpoint.counters().wrongKeyUsage).toBe(1);
    const other = makeNet(certs, { server: { identity: await certs.ca.issue(SERVER_NAME, []) } });
    const client = attempt(other);
    expect(client.connected).toHaveLength(0);
    expect(client.closed).toMatchObject([{ kind: 'local', code: CloseCode.keyUsage }]);
  });

  it('refuses another ALPN', () => {
    const net = makeNet(certs, { client: { alpn: 'other' } });
    const handler = attempt(net);
    expect(handler.connected).toHaveLength(0);
    expect(handler.closed).toMatchObject([{ kind: 'peer-transport', code: ALERT.noApplicationProtocol }]);
    expectNothing(net, 0);
  });

  it('judges certificates by the wall clock it is given, not by that of the machine', () => {
    const late = wallAt(WALL + 8 * DAY);
    const net = makeNet(certs, { server: { wallTime: late } });
    expect(attempt(net).closed).toMatchObject([{ kind: 'peer-transport', code: ALERT.certificateExpired }]);
    expectNothing(net);
    const client = makeNet(certs, { client: { wallTime: late } });
    expect(attempt(client).closed).toMatchObject([{ kind: 'transport', code: ALERT.certificateExpired }]);
    const early = makeNet(certs);
    early.server.endpoint.setWallTime(early.now, wallAt(WALL - 2 * DAY));
    expect(attempt(early).closed[0]?.kind).toBe('peer-transport');
    early.server.endpoint.setWallTime(early.now, WALL);
    expect(early.establish().server.isServer).toBe(true);
  });

  it('lets accept refuse', () => {
    const net = makeNet(certs, { server: { server: { accept: () => undefined } } });
    const handler = attempt(net);
    expect(handler.closed).toMatchObject([{ kind: 'peer-application', code: CloseCode.refused }]);
  });

  it('uses a new identity for new connections and leaves the old ones alone', async () => {
    const net = makeNet(certs);
    const first = net.establish();
    const renewed = await certs.ca.issue('renewed.test', ['client']);
    net.client.endpoint.setIdentity(renewed.certificate, renewed.key);
    const second = net.establish();
    expect(second.server.peerCertificates[0]).not.toEqual(first.server.peerCertificates[0]);
    expect(first.client.state).toBe('open');
    expect(() => net.client.endpoint.setIdentity(renewed.certificate, 'nonsense')).toThrow(/private key/);
    expect(net.establish().server.peerCertificates[0]).toEqual(second.server.peerCertificates[0]);
  });

  it('never resumes: the second handshake carries the certificates again', () => {
    const net = makeNet(certs);
    const flights: number[] = [];
    let largest = 0;
    net.tap = (bytes, to) => {
      // Long headers only: what the server sends before its first short one holds the certificate.
      if (to === net.client && (bytes[0]! & 0x80) !== 0) largest += bytes.length;
    };
    for (let i = 0; i < 2; i++) {
      largest = 0;
      net.establish();
      flights.push(largest);
    }
    expect(flights[1]).toBe(flights[0]);
    expect(flights[0]).toBeGreaterThan(certs.server.certificate.length / 2);
  });

  it.each(['chacha20', 'aes256'] as const)('agrees on %s alone', (suite) => {
    const net = makeNet(certs, { client: { suite }, server: { suite } });
    expect(net.establish().client.state).toBe('open');
  });
});

describe('the reason of a close', () => {
  it('is kept short, whatever the peer says', () => {
    const net = makeNet(certs);
    const { client, serverSide } = net.establish();
    client.close(net.now, 1, 'ä'.repeat(500));
    net.run(Seconds(1));
    expect(serverSide.closed[0]?.text).toBe('ä'.repeat(256));
  });
});
