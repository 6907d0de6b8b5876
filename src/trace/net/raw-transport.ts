/**
 * Probes of one run over raw sockets: a method's packets go out through the run's sink, and what the shared capture takes for
 * this run's comes back as answers.
 */
import type { SocketAddress } from '../../base/address.js';
import type { IoResult } from '../../os/io.js';
import type { RawSink } from '../../os/packet-io.js';
import type { Arena } from '../../wire/arena.js';
import type { Capture } from './capture.js';
import type { RawMethod } from './method.js';
import type { Probe, ProbeTransport, TransportEvents } from './probe.js';
import type { Reply } from './reply.js';

export interface RawTransportParts {
  readonly capture: Capture;
  /** Scratch memory for one packet, shared by all runs. */
  readonly arena: Arena;
  readonly sink: RawSink;
  readonly method: RawMethod;
  /** Closes reservations and ends listening. */
  readonly release: () => void;
}

export class RawTransport implements ProbeTransport {
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
  readonly #parts: RawTransportParts;
  readonly #events: TransportEvents;
  #open = true;

  constructor(parts: RawTransportParts, events: TransportEvents) {
    this.#parts = parts;
    this.#events = events;
    this.source = parts.method.source;
    this.destination = parts.method.destination;
  }

  send(probe: Probe): IoResult {
    const { arena, method, sink } = this.#parts;
    const length = method.write(probe, arena);
    const sent = sink.send(arena.bytes, 0, length, this.destination.ip);
    probe.sentAt = sink.sentAt;
    return sent;
  }

  /** A packet of the capture under this run's key. */
  receive(reply: Reply): void {
    if (!this.#open) return;
    const answer = this.#parts.method.match(reply);
    if (answer !== undefined) this.#events.answer(answer);
  }

  drain(): void {
    this.#parts.capture.drain();
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#parts.sink.close();
    this.#parts.release();
  }
}
