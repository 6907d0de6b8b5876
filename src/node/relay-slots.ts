/**
 * Where a node's relays are: for each slot the address its packets come from, and the socket it is reached by. Looked at for
 * every batch that is received.
 */
import { ADDRESS_WORDS, type SocketAddress, sameWords } from '../base/address.js';
import { MAX_RELAYS } from '../policy/relay-contact.js';

export class RelaySlots {
  /** Packed, by slot. */
  readonly addresses = new Uint32Array(MAX_RELAYS * ADDRESS_WORDS);
  readonly #sockets = new Int8Array(MAX_RELAYS).fill(-1);
  /** Slots in use are below this. */
  #end = 0;

  /** @param slot below `MAX_RELAYS`. @param socket −1: there is no such relay any more. */
  set(slot: number, address: SocketAddress | undefined, socket: number): void {
    address?.write(this.addresses, slot);
    this.#sockets[slot] = socket;
    this.#end = Math.max(this.#end, slot + 1);
  }

  /** Index of the socket by which the slot's relay is reached; −1: there is no relay. */
  socketOf(slot: number): number {
    return this.#sockets[slot]!;
  }

  has(address: SocketAddress): boolean {
    for (let slot = 0; slot < this.#end; slot++) {
      if (this.#sockets[slot]! >= 0 && address.matches(this.addresses, slot)) return true;
    }
    return false;
  }

  /** The slot of the relay that entry `index` of a batch of this socket comes from; −1: from elsewhere. */
  find(socket: number, sources: Uint32Array, index: number): number {
    for (let slot = 0; slot < this.#end; slot++) {
      if (this.#sockets[slot] === socket && sameWords(sources, index, this.addresses, slot)) return slot;
    }
    return -1;
  }
}
