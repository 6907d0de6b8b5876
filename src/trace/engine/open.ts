/**
 * From options to a transport: which method, with which ports and identifiers, over raw sockets or without privileges.
 *
 *   privilege auto:  raw ──refused──► unprivileged          raw, unprivileged: that, or an error
 *   tcp prefer_sack: session ──not possible──► SYN
 */
import { type IpAddress, SocketAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import { SallyportError } from '../../base/error.js';
import type { PacketIo, PortReservation, SendPath } from '../../os/packet-io.js';
import type { Arena } from '../../wire/arena.js';
import { traceError } from '../error.js';
import type { Capture, KeyKind, Listener } from '../net/capture.js';
import { IcmpMethod } from '../net/icmp.js';
import type { MethodOptions, RawMethod } from '../net/method.js';
import type { ProbeTransport, TransportEvents } from '../net/probe.js';
import { QuicDatagrams } from '../net/quic.js';
import { RawTransport } from '../net/raw-transport.js';
import type { Reply } from '../net/reply.js';
import { SackMethod } from '../net/sack.js';
import { SackFailure, SackSession } from '../net/sack-session.js';
import { SocketTransport } from '../net/socket-transport.js';
import { SynMethod } from '../net/syn.js';
import { UdpMethod } from '../net/udp.js';
import type { TcpMethod, TraceOptions } from '../types.js';

/** What all runs of the process share. */
export interface Surroundings {
  readonly io: PacketIo;
  readonly capture: Capture;
  readonly entropy: Entropy;
  readonly arena: Arena;
  /** The next IPv4 identification of TCP probes, 1 … 65,535. */
  readonly nextIdentification: () => number;
}

export interface OpenedTransport {
  readonly transport: ProbeTransport;
  readonly privilege: 'raw' | 'unprivileged';
  readonly tcpMethod?: TcpMethod;
  /** TTLs that may be unanswered at one time. */
  readonly window: number;
}

/** Where a target's port does not matter, and the port by which the way to it is asked. */
const ANY_PORT = 80;
/** Attempts to draw an echo identifier that no other run has. */
const DRAWS = 64;
/** SYNs wait for their answers in small groups: a target sees few half-open connections, and a silent hop holds up few others. */
const SYN_WINDOW = 6;
const ALL = 255;

/** @throws SallyportError with a trace code, or with the system's; @throws SackFailure when `method` is `sack` */
export async function openTransport(
  around: Surroundings,
  options: TraceOptions,
  events: TransportEvents,
  method: 'syn' | 'sack',
): Promise<OpenedTransport> {
  const bySockets = options.protocol === 'tcp' && method === 'syn' && around.io.rawTcp === false;
  if (options.privilege !== 'unprivileged' && !bySockets) {
    try {
      around.capture.open();
      return await openRaw(around, options, events, method);
    } catch (error) {
      const refused = error instanceof SallyportError && error.code === 'RAW_NOT_PERMITTED';
      if (!refused) throw error;
      if (options.privilege === 'raw') {
        throw traceError('DENIED', 'failed to create raw socket: operation not permitted', error);
      }
    }
  }
  return openSockets(around, options, events);
}

function openSockets(around: Surroundings, options: TraceOptions, events: TransportEvents): OpenedTransport {
  const { protocol, paris } = options;
  const needsRaw =
    protocol === 'quic' || options.multipath !== undefined || (protocol === 'tcp' && options.tcpMethod === 'sack');
  if (needsRaw) {
    const what =
      options.multipath !== undefined ? 'multipath discovery' : protocol === 'quic' ? 'QUIC probes' : 'SACK probes';
    throw traceError('DENIED', `${what}: raw sockets are needed, and not permitted`);
  }
  const to = new SocketAddress(options.destination, protocol === 'icmp' ? 0 : options.port);
  const { tos, sourcePort } = options;
  const transport = new SocketTransport(
    around.io,
    { ...pathOf(options), protocol, to, tos, paris, localPort: sourcePort ?? 0 },
    events,
  );
  const window = protocol !== 'tcp' ? ALL : paris ? 1 : SYN_WINDOW;
  const opened = { transport, privilege: 'unprivileged', window } as const;
  return protocol === 'tcp' ? { ...opened, tcpMethod: 'syn' } : opened;
}

async function openRaw(
  around: Surroundings,
  options: TraceOptions,
  events: TransportEvents,
  method: 'syn' | 'sack',
): Promise<OpenedTransport> {
  const opening = new Opening(around, options, events);
  try {
    switch (options.protocol) {
      case 'icmp':
        return opening.icmp();
      case 'tcp':
        return method === 'sack' ? await opening.sack() : opening.syn();
      case 'udp':
      case 'quic':
        return opening.udp();
    }
  } catch (error) {
    opening.release();
    around.capture.closeUnused();
    throw error;
  }
}

/** One transport in the making: what it has taken so far can be given back. */
class Opening implements Listener {
  readonly #around: Surroundings;
  readonly #options: TraceOptions;
  readonly #events: TransportEvents;
  readonly #taken: (() => void)[] = [];
  #receiver: Listener | undefined;

  constructor(around: Surroundings, options: TraceOptions, events: TransportEvents) {
    this.#around = around;
    this.#options = options;
    this.#events = events;
  }

  receive(reply: Reply): void {
    this.#receiver?.receive(reply);
  }

  release(): void {
    for (const give of this.#taken.splice(0).reverse()) give();
  }

  icmp(): OpenedTransport {
    const { destination } = this.#options;
    const { entropy, capture, io } = this.#around;
    const route = io.reserveUdp(new SocketAddress(destination, ANY_PORT), 0, pathOf(this.#options));
    const source = route.local.ip;
    route.close();
    let identifier = 0;
    for (let i = 0; i < DRAWS && (identifier === 0 || !capture.isFree('echo', destination.family, identifier)); i++) {
      identifier = entropy.uint32() & 0xffff;
    }
    this.#listen('echo', identifier);
    const addresses = { source: new SocketAddress(source, 0), destination: new SocketAddress(destination, 0) };
    return this.#finish(new IcmpMethod({ ...this.#shared(), ...addresses }, identifier), ALL);
  }

  udp(): OpenedTransport {
    const { destination: ip, port, protocol } = this.#options;
    const destination = new SocketAddress(ip, port);
    const reservation = this.#around.io.reserveUdp(destination, this.#options.sourcePort ?? 0, pathOf(this.#options));
    this.#hold(reservation);
    this.#listen('udp', reservation.local.port);
    const content = protocol === 'quic' ? new QuicDatagrams(this.#around.entropy) : undefined;
    return this.#finish(new UdpMethod({ ...this.#shared(), source: reservation.local, destination }, content), ALL);
  }

  syn(): OpenedTransport {
    const { entropy, nextIdentification } = this.#around;
    const ports: number[] = [];
    const first = this.#reserveTcp(this.#options.sourcePort ?? 0);
    ports.push(first.local.port);
    const portOf = (flow: number): number => {
      ports[flow] ??= this.#reserveTcp(0).local.port;
      return ports[flow];
    };
    const draw = { portOf, nextIdentification, nextSequence: () => entropy.uint32() };
    const addresses = { source: first.local, destination: this.#target() };
    return { ...this.#finish(new SynMethod({ ...this.#shared(), ...addresses }, draw), SYN_WINDOW), tcpMethod: 'syn' };
  }

  async sack(): Promise<OpenedTransport> {
    const { io } = this.#around;
    const connection = io.session(this.#target(), pathOf(this.#options));
    this.#taken.push(() => connection.close());
    this.#listen('tcp', connection.local.port, true);
    const session = new SackSession(io, connection, this.#target());
    this.#receiver = session;
    const state = await session.open(this.#options.timeout);
    const addresses = { source: connection.local, destination: this.#target() };
    const method = new SackMethod({ ...this.#shared(), ...addresses }, state, () => {
      this.#events.fail(noSackOptions());
    });
    return { ...this.#finish(method, ALL), tcpMethod: 'sack' };
  }

  #finish(method: RawMethod, window: number): OpenedTransport {
    const { io, capture, arena } = this.#around;
    const sink = io.sink(this.#options.destination.family, pathOf(this.#options));
    const release = (): void => this.release();
    const transport = new RawTransport({ capture, arena, sink, method, release }, this.#events);
    this.#receiver = transport;
    return { transport, privilege: 'raw', window };
  }

  #reserveTcp(port: number): PortReservation {
    const reservation = this.#around.io.reserveTcp(this.#target(), port, pathOf(this.#options));
    this.#hold(reservation);
    this.#listen('tcp', reservation.local.port);
    return reservation;
  }

  #listen(kind: KeyKind, number: number, loose = false): void {
    this.#taken.push(this.#around.capture.listen(kind, this.#options.destination.family, number, this, loose));
  }

  #hold(reservation: PortReservation): void {
    this.#taken.push(() => reservation.close());
  }

  #target(): SocketAddress {
    return new SocketAddress(this.#options.destination, this.#options.port);
  }

  #shared(): Pick<MethodOptions, 'tos' | 'paris'> {
    return { tos: this.#options.tos, paris: this.#options.paris };
  }
}

/** A target that acknowledges what it got behind a hole without SACK blocks; the code lets `prefer_sack` go on with SYNs. */
export const NO_SACK = 'SACK_NOT_SUPPORTED';

const noSackOptions = (): SallyportError =>
  new SallyportError('peer', NO_SACK, 'endpoint returned SACK-permitted but found no SACK options');

/** Whether an error means that probes in a session are not possible here. */
export const isSackFailure = (error: unknown): error is Error =>
  error instanceof SackFailure || (error instanceof SallyportError && error.code === NO_SACK);

/** How the run's packets leave. */
export function pathOf(options: TraceOptions): SendPath {
  const { source, device, mark } = options;
  const path: { source?: IpAddress; device?: string; mark?: number } = {};
  if (source !== undefined) path.source = source;
  if (device !== undefined) path.device = device;
  if (mark !== undefined) path.mark = mark;
  return path;
}
