/** What the proxy's UDP parts share, and what they count. */
import type { SocketAddress } from '../../base/address.js';
import type { Counters } from '../../base/counters.js';
import { type Duration, Seconds } from '../../base/time.js';
import { READABLE, type Reactor, type Sockets, type UdpSocket, type Watch } from '../../os/io.js';
import type { UdpPorts } from '../udp-ports.js';
import type { Resolution } from './resolve.js';
import type { UdpOutbox } from './udp-outbox.js';

/** A flow without traffic for this long ends; sooner while nothing was answered. The connector's flows live as long. */
export const UDP_IDLE: Duration = Seconds(120);
export const UDP_UNANSWERED: Duration = Seconds(60);

/** Clients are programs of this machine or network: small bursts, in pages that are only touched when they come. */
const BATCH = 16;
const BUFFER_BYTES = 2 * 1024 * 1024;
/** Batches taken from one socket before the others get their turn. */
const BATCHES_PER_TURN = 4;

export const UDP_COUNTERS = [
  'udp_associations',
  /** `UDP ASSOCIATE` refused because there were too many, or no socket could be opened. */
  'udp_associations_refused',
  'udp_flows',
  'udp_flows_expired',
  /** No port, or more targets or clients than one listener keeps. */
  'udp_flows_over_limit',
  'udp_in',
  'udp_out',
  /** A datagram whose SOCKS header says that it is a fragment (RFC 1928 §7 leaves these to the relay's choice). */
  'udp_fragments',
  'udp_malformed',
  /** Not from the association's client, or from an address that may not use the listener. */
  'udp_foreign',
  /** Its target is not a service, or not granted. */
  'udp_not_allowed',
  /** Not taken by the stack or too long for a datagram. */
  'udp_dropped',
  /** ICMP errors about datagrams that we sent. */
  'udp_undelivered',
] as const;
export type UdpCounterName = (typeof UDP_COUNTERS)[number];

export interface UdpContext {
  readonly reactor: Reactor;
  readonly sockets: Pick<Sockets, 'udp'>;
  readonly ports: UdpPorts;
  readonly outbox: UdpOutbox;
  readonly counters: Counters<UdpCounterName>;
  resolve(host: string, port: number | undefined): Resolution;
  /** Something was queued in the stack outside its own calls: it is to be flushed this turn. */
  onActivity(): void;
}

/** A socket of the proxy and its reading; entry by entry. */
export class ClientSocket {
  readonly socket: UdpSocket;
  readonly #watch: Watch;
  readonly #context: UdpContext;

  /** @throws SallyportError of the sockets (environment). */
  constructor(context: UdpContext, local: SocketAddress, onEntry: (socket: UdpSocket, entry: number) => void) {
    this.#context = context;
    const options = { offload: false, batch: BATCH, bufferBytes: BUFFER_BYTES };
    const socket = context.sockets.udp(local, options);
    this.socket = socket;
    this.#watch = context.reactor.watch(socket.fd, READABLE, () => {
      for (let batch = 0; batch < BATCHES_PER_TURN; batch++) {
        const entries = socket.receive();
        if (entries <= 0) break;
        for (let i = 0; i < entries; i++) onEntry(socket, i);
        if (entries < BATCH) break;
      }
      context.onActivity();
    });
  }

  close(): void {
    this.#context.outbox.forget(this.socket);
    this.#watch.close();
    this.socket.close();
  }
}
