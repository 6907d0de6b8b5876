/**
 * What is known about one server: whether it answers, whether it knows EDNS, and the connection to it.
 *
 *   good ─ no answer ─► backing off 1 s, 2, 4 … 60 s: asked after the others ─ an answer ─► good
 */
import type { SocketAddress } from '../../base/address.js';
import { type Instant, instantAt, later, Seconds, scale } from '../../base/time.js';
import { HttpsClient } from './https-client.js';
import { type StreamAsker, StreamClient, type StreamClientParts } from './stream-client.js';
import type { DnsDialer, DnsStream, DnsStreamHandlers } from './transport.js';
import type { DnsServer } from './upstream.js';

const BACKOFF_FIRST = Seconds(1);
const BACKOFF_DOUBLINGS = 6;
const BACKOFF_MAX = Seconds(60);
const LONG_AGO = instantAt(Number.NEGATIVE_INFINITY);

export class ServerState {
  readonly server: DnsServer;
  /** It answered EDNS with an error: asked without from now on. */
  lacksEdns = false;
  failures = 0;
  #notBefore = LONG_AGO;
  readonly #dialer: DnsDialer;
  readonly #parts: Omit<StreamClientParts, 'open'>;
  #stream: StreamAsker | undefined;

  constructor(server: DnsServer, dialer: DnsDialer, parts: Omit<StreamClientParts, 'open'>) {
    this.server = server;
    this.#dialer = dialer;
    this.#parts = parts;
  }

  get address(): SocketAddress {
    return this.server.address;
  }

  get isStreamOnly(): boolean {
    return this.server.transport !== 'udp';
  }

  isBackingOff(now: Instant): boolean {
    return now < this.#notBefore;
  }

  onAnswer(): void {
    this.failures = 0;
    this.#notBefore = LONG_AGO;
  }

  onFailure(now: Instant): void {
    const span = scale(BACKOFF_FIRST, 2 ** Math.min(this.failures++, BACKOFF_DOUBLINGS));
    this.#notBefore = later(now, span < BACKOFF_MAX ? span : BACKOFF_MAX);
  }

  /** The connection for questions that do not go over UDP. */
  stream(): StreamAsker {
    this.#stream ??= this.#newStream();
    return this.#stream;
  }

  /** Ends the connection; the next question makes another one. Another network may reach what this one did not. */
  reset(): void {
    this.#stream?.close();
    this.#stream = undefined;
    this.onAnswer();
  }

  #newStream(): StreamAsker {
    const { transport, address, serverName, path } = this.server;
    if (transport === 'https') {
      const open = (handlers: DnsStreamHandlers) =>
        this.#tls(this.#dialer.http2 === true ? ['h2', 'http/1.1'] : ['http/1.1'], handlers);
      return new HttpsClient({
        ...this.#parts,
        open,
        host: serverName.includes(':') ? `[${serverName}]` : serverName,
        path,
      });
    }
    const open = (handlers: DnsStreamHandlers) =>
      transport === 'tls' ? this.#tls(['dot'], handlers) : this.#dialer.tcp(address, handlers);
    return new StreamClient({ ...this.#parts, open });
  }

  #tls(protocols: readonly string[], handlers: DnsStreamHandlers): DnsStream | undefined {
    const { counters } = this.#parts;
    let isOpen = false;
    return this.#dialer.tls?.(this.address, this.server.serverName, protocols, {
      onOpen: (requests) => {
        isOpen = true;
        counters.add('dns_tls_opened');
        handlers.onOpen(requests);
      },
      onData: (bytes, offset, length) => handlers.onData(bytes, offset, length),
      onClosed: (why) => {
        if (!isOpen) counters.add(why === 'untrusted' ? 'dns_tls_untrusted' : 'dns_tls_failed');
        handlers.onClosed(why);
      },
    });
  }
}
