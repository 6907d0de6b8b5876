/** Who gets through the handshake and who does not. */
import { beforeAll, describe, expect, it } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { type Certificates, certificates, makeNet, text, utf8, write } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

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
  });
});
