/**
 * The resolver's side of DNS over TCP inside the tunnel: the connection is taken, its queries answered in the order in which answers come.
 *
 *   SYN ─► accepted ─► query, query … ─► answers           10 s without a query, too many at once, garbage ─► reset
 *
 * RFC 7766.
 */
import { later, Seconds } from '../../base/time.js';
import type { TcpConnection } from '../../netstack/tcp/connection.js';
import type { TcpRequest } from '../../netstack/tcp/request.js';
import { DnsFraming, frame } from './framing.js';
import type { DnsService } from './service.js';
import type { DnsTimers } from './transport.js';

const IDLE_TIME = Seconds(10);
/** Connections at once; programs need one. */
const CONNECTIONS_MAX = 256;
/** Queries of one connection that wait for their answers. */
const OUTSTANDING_MAX = 64;

export class DnsTcpService {
  readonly #service: DnsService;
  readonly #timers: DnsTimers;
  readonly #connections = new Set<TcpConnection>();

  constructor(service: DnsService, timers: DnsTimers) {
    this.#service = service;
    this.#timers = timers;
  }

  get size(): number {
    return this.#connections.size;
  }

  /** Takes or refuses a connection to port 53. */
  readonly serve = (request: TcpRequest): void => {
    if (this.#connections.size >= CONNECTIONS_MAX) {
      request.reject('reset');
      return;
    }
    let outstanding = 0;
    let stopIdle = (): void => {};
    const framing = new DnsFraming((query) => {
      if (++outstanding > OUTSTANDING_MAX) connection?.abort();
      else
        this.#service.onQuery(query, true, (answer) => {
          outstanding--;
          this.#send(connection, frame(answer));
        });
    });
    const rest = (): void => {
      stopIdle();
      stopIdle = this.#timers.at(later(this.#timers.now(), IDLE_TIME), () => connection?.abort());
    };
    const connection = request.accept({
      onData: (bytes, offset, length) => {
        rest();
        framing.feed(bytes, offset, length);
        return length;
      },
      onPeerClosed: () => connection?.shutdownWrite(),
      onClosed: () => {
        stopIdle();
        if (connection !== undefined) this.#connections.delete(connection);
      },
    });
    if (connection === undefined) return;
    this.#connections.add(connection);
    rest();
  };

  /** An answer that does not fit the send buffer ends the connection: its reader has stopped reading. */
  #send(connection: TcpConnection | undefined, bytes: Uint8Array): void {
    if (connection === undefined || !this.#connections.has(connection)) return;
    if (connection.write(bytes, 0, bytes.length) < bytes.length) connection.abort();
  }
}
