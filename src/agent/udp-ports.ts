/**
 * Local UDP ports of the agent's own stack: each belongs to one flow of the proxies, and what comes for it goes to its owner.
 *
 *   owner ── send(port, remote) ─► overlay address:port ─► stack          stack ─ onUdp ─► owner of the port
 */
import { ADDRESS_WORDS, type IpAddress, type SocketAddress } from '../base/address.js';
import { Drop, type DropReason } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import type { Instant } from '../base/time.js';
import type { Rejection, StackHandlers } from '../netstack/types.js';
import type { OwnAddresses } from './judge.js';

/** Ports at once: as many UDP flows as a connector keeps for one session. */
export const MAX_UDP_PORTS = 1024;
/** Dynamic ports (RFC 6335 §6). */
const FIRST_PORT = 49_152;
const PORTS = 65_536 - FIRST_PORT;

export interface UdpPortOwner {
  /** A datagram: index 0 of `addresses` = who sent it; memory and addresses are the stack's and change after the call. */
  onDatagram(addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): void;
  /** The network says that a datagram sent to index 1 of `addresses` did not arrive. */
  onUndelivered(addresses: Uint32Array): void;
}

export interface UdpPortsParts {
  readonly own: OwnAddresses;
  readonly entropy: Entropy;
  /** `Stack.sendUdp` from index 0 to index 1. */
  readonly send: (
    now: Instant,
    addresses: Uint32Array,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ) => DropReason;
}

export class UdpPorts {
  /** To be given to the stack. */
  readonly handlers: StackHandlers = {
    onUdp: (addresses, bytes, offset, length) => this.#received(addresses, bytes, offset, length),
    onUdpError: (addresses) => this.#owners.get(addresses[ADDRESS_WORDS - 1]!)?.onUndelivered(addresses),
  };
  readonly #parts: UdpPortsParts;
  readonly #owners = new Map<number, UdpPortOwner>();
  readonly #words = new Uint32Array(2 * ADDRESS_WORDS);

  constructor(parts: UdpPortsParts) {
    this.#parts = parts;
  }

  get size(): number {
    return this.#owners.size;
  }

  /** A free port, which stands for both address families; 0 when `MAX_UDP_PORTS` are taken. */
  open(owner: UdpPortOwner): number {
    if (this.#owners.size >= MAX_UDP_PORTS) return 0;
    // RFC 6056 §3.3.1: start anywhere. Most ports are free, so that a few steps find one.
    let port = FIRST_PORT + (this.#parts.entropy.uint32() % PORTS);
    while (this.#owners.has(port)) port = port === 65_535 ? FIRST_PORT : port + 1;
    this.#owners.set(port, owner);
    return port;
  }

  close(port: number): void {
    this.#owners.delete(port);
  }

  /** Sends a datagram from `port` to the packed address `remote`. `bad_address`: no overlay address of its family. */
  send(now: Instant, port: number, remote: Uint32Array, bytes: Uint8Array, offset: number, length: number): DropReason {
    const words = this.#words;
    for (let i = 0; i < ADDRESS_WORDS; i++) words[ADDRESS_WORDS + i] = remote[i]!;
    const own = this.#own(remote);
    if (own === undefined) return Drop.bad_address;
    words[0] = own.w0;
    words[1] = own.w1;
    words[2] = own.w2;
    words[3] = own.w3;
    words[4] = port;
    return this.#parts.send(now, words, bytes, offset, length);
  }

  #own(remote: Uint32Array): IpAddress | undefined {
    const isV4 = remote[0] === 0 && remote[1] === 0 && remote[2] === 0xffff;
    return isV4 ? this.#parts.own.overlay4 : this.#parts.own.overlay6;
  }

  #received(addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): Rejection | undefined {
    const owner = this.#owners.get(addresses[2 * ADDRESS_WORDS - 1]!);
    if (owner === undefined) return 'port-unreachable';
    owner.onDatagram(addresses, bytes, offset, length);
    return undefined;
  }
}

/** A socket address as the packed words that `send` wants. */
export function packed(address: SocketAddress): Uint32Array {
  const words = new Uint32Array(ADDRESS_WORDS);
  address.write(words, 0);
  return words;
}
