/** A server that has lost its memory tells its old peers so at once, if it has kept its keys (RFC 9000 §10.3). */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { ADDRESS_WORDS } from '../../src/base/address.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { QuicEndpoint } from '../../src/quic/endpoint.js';
import { toNative } from '../../src/quic/options.js';
import { type Certificates, certificates, makeNet, type Net, SERVER_ADDRESS, side, utf8, WALL } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

const resetKey = new Uint8Array(32).fill(5);
const connectionIdKey = new Uint8Array(8).fill(9);

function serverOptions(keys: object) {
  return {
    alpn: 'sallyport-test',
    ca: certs.ca.pem,
    identity: certs.server,
    wallTime: WALL,
    client: false,
    server: { accept: () => undefined },
    ...keys,
  };
}

/** The net's server is forgotten and another takes its place. */
function restart(net: Net, keys: object): void {
  Object.assign(net, { server: side(new QuicEndpoint(serverOptions(keys)), SERVER_ADDRESS) });
}

describe('stateless reset', () => {
  it('closes the client at once when the server restarts with its keys', () => {
    const net = makeNet(certs, { server: { resetKey, connectionIdKey } });
    const { client, clientSide } = net.establish();
    restart(net, { resetKey, connectionIdKey });
    client.ping();
    net.run(Millis(20));
    // A ping is too small a packet to be answered by a reset of full size; a datagram is not.
    client.sendDatagram(new Uint8Array(200));
    net.run(Millis(20));
    expect(clientSide.closed).toMatchObject([{ kind: 'reset' }]);
    expect(net.server.endpoint.counters().resets).toBeGreaterThan(0);
  });

  it.each([
    ['another reset key', { resetKey: new Uint8Array(32).fill(6), connectionIdKey }],
    ['another connection id key', { resetKey, connectionIdKey: new Uint8Array(8).fill(8) }],
  ])('does not with %s', (_name, keys) => {
    const net = makeNet(certs, { server: { resetKey, connectionIdKey } });
    const { client, clientSide } = net.establish();
    restart(net, keys);
    client.sendDatagram(new Uint8Array(200));
    net.run(Seconds(1));
    expect(clientSide.closed).toHaveLength(0);
  });

  it('works from another process', () => {
    const net = makeNet(certs, { server: { resetKey, connectionIdKey } });
    const { client, clientSide } = net.establish();
    let last: Uint8Array = new Uint8Array(0);
    net.tap = (bytes) => {
      last = bytes;
    };
    net.path = () => undefined;
    client.sendDatagram(utf8('x'.repeat(200)));
    net.pump(net.client);
    const address = new Uint32Array(ADDRESS_WORDS);
    net.client.address.write(address, 0);
    const options = {
      ...toNative(serverOptions({ connectionIdKey })),
      resetKey: Buffer.from(resetKey).toString('hex'),
    };
    const answer = execFileSync(
      process.execPath,
      [
        fileURLToPath(new URL('./reset-child.mjs', import.meta.url)),
        JSON.stringify({
          options,
          packet: Buffer.from(last).toString('hex'),
          address: [...address],
          module: '../../native/quic/sallyport-quic.linux-x64-gnu.node',
        }),
      ],
      { encoding: 'utf8' },
    );
    expect(answer.length).toBeGreaterThan(0);
    net.deliver(net.client, new Uint8Array(Buffer.from(answer, 'hex')), net.server.address);
    net.client.endpoint.process(net.now);
    expect(clientSide.closed).toMatchObject([{ kind: 'reset' }]);
  });
});
