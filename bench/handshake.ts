/**
 * Mutual-TLS handshakes between two QUIC endpoints in one thread, without a network: from `connect` until both ends have verified
 * the other's certificate against the CA and report the connection. No resumption: every handshake is a whole one.
 */
import type { Instant } from '../src/base/time.js';
import { instantAt } from '../src/base/time.js';
import type { ConnectionHandler } from '../src/quic/connection.js';
import { QuicEndpoint } from '../src/quic/endpoint.js';
import { authority, CLIENT_ADDRESS, SERVER_ADDRESS, SERVER_NAME, WALL } from '../test/quic/harness.js';
import { quantile } from './statistics.js';

/** Left out of the result: code not compiled yet. */
const WARM_UP = 200;
const SEGMENTS = 40;

export interface Handshakes {
  readonly count: number;
  /** Microseconds, both ends together. */
  readonly p50: number;
  readonly p95: number;
}

export async function measureHandshakes(count: number): Promise<Handshakes> {
  const ca = await authority('bench');
  const common = { alpn: 'bench', ca: ca.pem, wallTime: WALL };
  let connected = 0;
  const handler: ConnectionHandler = {
    onConnected: () => {
      connected++;
    },
    onClosed: () => undefined,
    onDatagrams: () => undefined,
    onControlMessage: () => undefined,
  };
  const server = new QuicEndpoint({
    ...common,
    identity: await ca.issue(SERVER_NAME, ['server']),
    client: false,
    server: { accept: () => handler },
  });
  const client = new QuicEndpoint({ ...common, identity: await ca.issue('client.test', ['client']), client: true });
  const addresses = new Uint32Array(10);
  CLIENT_ADDRESS.write(addresses, 0);
  SERVER_ADDRESS.write(addresses, 1);
  const toServer = server.attachReceive(client.tx);
  const toClient = client.attachReceive(server.tx);
  const move = (now: Instant, from: QuicEndpoint, to: QuicEndpoint, memory: typeof toServer, source: number): void => {
    while (from.transmit(now, 0, SEGMENTS)) {
      to.queueRun(memory, 0, from.out.length, from.out.segment, 0, addresses, source);
      to.receive(now);
    }
    to.process(now);
  };
  const times: number[] = [];
  for (let index = 0; index < WARM_UP + count; index++) {
    const begun = performance.now();
    const wanted = connected + 2;
    const connection = client.connect(instantAt(begun * 1000), SERVER_ADDRESS, SERVER_NAME, handler);
    while (connected < wanted) {
      const now = instantAt(performance.now() * 1000);
      move(now, client, server, toServer, 0);
      move(now, server, client, toClient, 1);
    }
    if (index >= WARM_UP) times.push((performance.now() - begun) * 1000);
    const now = instantAt(performance.now() * 1000);
    connection.close(now, 0, 'done');
    move(now, client, server, toServer, 0);
  }
  client.close(instantAt(performance.now() * 1000));
  server.close(instantAt(performance.now() * 1000));
  return { count, p50: quantile(times, 0.5), p95: quantile(times, 0.95) };
}
