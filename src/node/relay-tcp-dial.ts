/** A WebSocket to a relay's control listener: what the way over TCP runs in. */
import type { Socket } from 'node:net';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { WebSocket } from 'ws';
import { type Duration, Seconds, toMillis } from '../base/time.js';
import { connectThrough, proxyFor } from '../identity/http-proxy.js';
import { dnsName } from '../policy/names.js';
import type { RelayTcpParts } from './relay-tcp.js';
import { STREAM_OPTIONS, TCP_PATH, TCP_SUBPROTOCOL } from './tcp-bridge.js';

const HANDSHAKE_LIMIT: Duration = Seconds(10);

/** An open stream, the relay's certificate checked against the network's CA. Rejects with the error of the connection, TLS or proxy. */
export async function dialRelayTcp({
  network,
  relay,
  caPem,
  environment,
}: Pick<RelayTcpParts, 'network' | 'relay' | 'caPem' | 'environment'>): Promise<WebSocket> {
  const url = new URL(TCP_PATH, relay.control);
  const proxy = proxyFor(url, environment);
  const through: Socket | undefined = proxy && (await connectThrough(proxy, url));
  const tls: ConnectionOptions = {
    ca: [caPem],
    servername: dnsName(network, 'relay', relay.name),
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['http/1.1'],
  };
  const stream = new WebSocket(url.href.replace(/^https/, 'wss'), [TCP_SUBPROTOCOL], {
    ...STREAM_OPTIONS,
    ...tls,
    handshakeTimeout: toMillis(HANDSHAKE_LIMIT),
    ...(through === undefined ? {} : { createConnection: () => tlsConnect({ socket: through, ...tls }) }),
  });
  return new Promise((resolve, reject) => {
    stream.once('error', reject);
    stream.once('open', () => {
      stream.off('error', reject);
      resolve(stream);
    });
  });
}
