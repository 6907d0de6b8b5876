/**
 * The relay over TCP: nodes that no UDP reaches the relay from open a WebSocket on the control listener, and everything they would
 * have said by UDP travels in it.
 *
 *   GET /api/v1/relay, Upgrade: websocket, Sec-WebSocket-Protocol: sallyport-udp-1
 *
 * Whoever asks gets no more than a UDP path to the relay's own port would give; who they are the QUIC connection inside proves. How many
 * there are at once, in all and from one source, is bounded. RFC 6455.
 */
import type { IncomingMessage } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { describeError } from '../base/error.js';
import { STREAM_OPTIONS, TCP_PATH, TCP_SUBPROTOCOL, TcpBridge } from '../node/tcp-bridge.js';
import { noCounters, sumOf, type TcpBridgeCounters } from '../node/tcp-counters.js';
import type { ControlLog } from './server.js';
import { sourceOf } from './source-limits.js';

const MAX_STREAMS = 512;
/** A site behind one address; each node has one stream, and its next while the last is not yet known to be gone. */
export const MAX_PER_SOURCE = 64;

export interface TcpRelay {
  readonly streams: number;
  readonly refused: number;
  readonly counters: TcpBridgeCounters;
  stop(): Promise<void>;
}

/** Serves streams on `server`, each joined to the relay's UDP socket at `relay`. */
export function serveTcpRelay(
  server: HttpsServer,
  relay: { readonly address: string; readonly port: number },
  log: ControlLog,
): TcpRelay {
  const sockets = new WebSocketServer({
    noServer: true,
    ...STREAM_OPTIONS,
    handleProtocols: (offered) => (offered.has(TCP_SUBPROTOCOL) ? TCP_SUBPROTOCOL : false),
  });
  const bridges = new Set<TcpBridge>();
  const perSource = new Map<string, number>();
  let gone = noCounters();
  let streams = 0;
  let refused = 0;

  const refuse = (socket: Duplex, status: string): void => {
    refused++;
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  };
  const count = (source: string, by: number): void => {
    streams += by;
    const left = (perSource.get(source) ?? 0) + by;
    if (left === 0) perSource.delete(source);
    else perSource.set(source, left);
  };
  const upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on('error', () => undefined);
    const source = sourceOf(request);
    const status = whyNot(request, streams, perSource.get(source) ?? 0);
    if (status !== undefined) {
      refuse(socket, status);
      return;
    }
    count(source, 1);
    socket.once('close', () => count(source, -1));
    sockets.handleUpgrade(request, socket, head, (stream) => {
      TcpBridge.open(stream, relay).then(
        (bridge) => {
          log.info({ source }, 'a node comes over TCP');
          bridges.add(bridge);
          void bridge.closed.then(() => {
            bridges.delete(bridge);
            gone = sumOf(gone, bridge.counters);
          });
        },
        (error: unknown) => {
          log.error({ source, error: describeError(error) }, 'no UDP socket for a node over TCP');
          stream.terminate();
        },
      );
    });
  };
  server.on('upgrade', upgrade);
  return {
    get streams() {
      return streams;
    },
    get refused() {
      return refused;
    },
    get counters() {
      return [...bridges].reduce((sum, bridge) => sumOf(sum, bridge.counters), gone);
    },
    stop: async () => {
      server.off('upgrade', upgrade);
      for (const bridge of bridges) bridge.close();
      await Promise.all([...bridges].map((bridge) => bridge.closed));
    },
  };
}

/** The status that refuses a request to upgrade; undefined: it is granted. */
function whyNot(request: IncomingMessage, streams: number, ofSource: number): string | undefined {
  if ((request.url ?? '').split('?', 1)[0] !== TCP_PATH) return '404 Not Found';
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',');
  if (!offered.some((one) => one.trim() === TCP_SUBPROTOCOL)) return '400 Bad Request';
  return streams >= MAX_STREAMS || ofSource >= MAX_PER_SOURCE ? '503 Service Unavailable' : undefined;
}
