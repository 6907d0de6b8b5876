/**
 * Further IPv4 sockets of a node, while ports are guessed: many for seconds, of which the one that a peer has met stays for its link.
 * Only that one costs the links' endpoint memory.
 */
import type { Instant } from '../base/time.js';
import type { TransmitMemory, UdpBatch, UdpSocket } from '../os/io.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { PUNCH_LENGTH } from '../tunnel/punch/punch-frame.js';
import type { DirectTable } from './direct-table.js';

/** Where they come from. */
export interface ExtraSockets {
  /** A new IPv4 socket on an ephemeral port, watched; undefined: the system has no more. */
  open(onReadable: () => void): { readonly socket: UdpSocket; close(): void } | undefined;
}

interface Extra {
  readonly socket: UdpSocket;
  readonly punch: TransmitMemory;
  readonly close: () => void;
  /** For the links' endpoint; only the one that is used has them. */
  linkMemory: number | undefined;
  linkTransmit: TransmitMemory | undefined;
}

export interface ExtraSocketSetParts {
  readonly links: QuicEndpoint;
  readonly table: DirectTable;
  /** An entry of a batch has come on socket `id`; `linkMemory` is the links' endpoint's number of its memory. */
  readonly onEntry: (now: Instant, rx: UdpBatch, entry: number, linkMemory: number, id: number) => void;
}

export class ExtraSocketSet {
  readonly #parts: ExtraSocketSetParts;
  readonly #all = new Map<number, Extra>();
  #next = 1;

  constructor(parts: ExtraSocketSetParts) {
    this.#parts = parts;
  }

  get size(): number {
    return this.#all.size;
  }

  /** One more; its number, from 1, or undefined when there is none. */
  open(sockets: ExtraSockets, now: () => Instant): number | undefined {
    const id = this.#next++;
    const opened = sockets.open(() => this.#receive(now(), id));
    if (opened === undefined) return undefined;
    const { socket } = opened;
    this.#all.set(id, {
      socket,
      punch: socket.registerTransmit(new Uint8Array(PUNCH_LENGTH)),
      close: () => opened.close(),
      linkMemory: undefined,
      linkTransmit: undefined,
    });
    return id;
  }

  /** Closes those that no open address needs. Returns how many there still are. */
  closeUnused(now: Instant): number {
    for (const [id, { close }] of this.#all) {
      if (this.#parts.table.needs(now, id)) continue;
      this.#all.delete(id);
      close();
    }
    return this.#all.size;
  }

  /** Sends one PUNCH; nothing when the socket is closed or has no room. */
  punch(id: number, bytes: Uint8Array, addresses: Uint32Array, index: number): void {
    const extra = this.#all.get(id);
    if (extra === undefined || extra.socket.isBlocked) return;
    extra.punch.bytes.set(bytes);
    extra.socket.send(extra.punch, 0, bytes.length, bytes.length, addresses, index);
    extra.socket.flush(false);
  }

  /** Sends a run of the links' endpoint by the socket its address belongs to; undefined: by none of these. */
  send(endpoint: QuicEndpoint, offset: number, length: number, segment: number): UdpSocket | undefined {
    const extra = this.#all.get(this.#parts.table.socketOf(endpoint.outAddress, 0));
    if (extra === undefined) return undefined;
    extra.linkTransmit ??= extra.socket.registerTransmit(endpoint.tx);
    extra.socket.send(extra.linkTransmit, offset, length, segment, endpoint.outAddress, 0);
    return extra.socket;
  }

  /** What finds no room is dropped: these have no queue. */
  flush(isPatient: boolean): void {
    for (const { socket, linkTransmit } of this.#all.values()) {
      if (linkTransmit === undefined) continue;
      socket.flush(isPatient);
      if (socket.isBlocked) socket.giveUp();
    }
  }

  #receive(now: Instant, id: number): void {
    const extra = this.#all.get(id);
    if (extra === undefined) return;
    const { links, table, onEntry } = this.#parts;
    const { rx } = extra.socket;
    const entries = extra.socket.receive();
    for (let entry = 0; entry < entries; entry++) {
      if (extra.linkMemory === undefined && table.isOpen(now, rx.sources, entry)) {
        extra.linkMemory = links.attachReceive(rx.memory);
      }
      onEntry(now, rx, entry, extra.linkMemory ?? 0, id);
    }
    if (entries > 0) links.receive(now);
  }
}
