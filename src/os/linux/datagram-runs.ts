/**
 * Datagrams of one socket to one peer, one after another, leave as a run that the kernel cuts apart (UDP_SEGMENT): one way through
 * its network stack for all of them.
 *
 *   write, write, write … (equal sizes) ─┬─ another socket, peer or larger size · 32 datagrams · memory full ─► sent
 *                                        ├─ a smaller one: the last of its run ─────────────────────────────► sent
 *                                        └─ the reactor's turn ends ────────────────────────────────────────► sent
 *
 * What became of a datagram is known only then, so a failure is told by a later call of the same socket, one call for each
 * datagram that did not leave.
 */
import { ADDRESS_WORDS, sameWords } from '../../base/address.js';
import type { IoResult } from '../io.js';
import { ECONNREFUSED, EMSGSIZE } from '../io.js';
import { EINVAL, EIO, IPPROTO_UDP, MSG_NOSIGNAL, UDP_SEGMENT } from './constants.js';
import { errno, sendto, setsockopt } from './libc.js';
import { NativeMemory } from './memory.js';
import { copy } from './scratch.js';
import { putSockaddr, SockaddrBuffer } from './sockaddr.js';

/** A third of what a receiver with the kernel's default buffer holds (212,992 bytes, 2,304 for a datagram of 1,400). */
export const LONGEST_RUN = 32;
/** The largest datagram (RFC 768 over IPv4), which is also the longest run. */
const RUN_BYTES = 65_507;

/** One per thread: at most one run is being put together. */
export class DatagramRuns {
  readonly #memory = NativeMemory.allocate(RUN_BYTES);
  readonly #name = new SockaddrBuffer();
  readonly #option = NativeMemory.allocate(8);
  readonly #optionValue = this.#option.ints();
  readonly #peer = new Uint32Array(ADDRESS_WORDS);
  #nameLength = 0;
  #sender: RunSender | undefined;
  #size = 0;
  #length = 0;
  #count = 0;

  /** @param addresses where to, packed, at `index`; undefined for a connected socket. */
  add(
    sender: RunSender,
    addresses: Uint32Array | undefined,
    index: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    const goesOn =
      sender === this.#sender &&
      // An empty datagram cannot be told from the end of the run before it.
      length > 0 &&
      length <= this.#size &&
      this.#length + length <= RUN_BYTES &&
      (addresses === undefined || sameWords(addresses, index, this.#peer, 0));
    if (!goesOn) {
      this.flush();
      this.#begin(sender, addresses, index, length);
    }
    copy(bytes, offset, this.#memory.bytes, this.#length, length);
    this.#length += length;
    this.#count++;
    if (length < this.#size || length === 0 || this.#count === LONGEST_RUN) this.flush();
  }

  /** Of the socket `fd`: 0 for none. False where the kernel knows of no segments. */
  setSegment(fd: number, size: number): boolean {
    this.#optionValue[0] = size;
    return setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, this.#option.address, 4) === 0;
  }

  /** Sends what there is. */
  flush(): void {
    const sender = this.#sender;
    if (sender === undefined) return;
    this.#sender = undefined;
    const to = this.#nameLength === 0 ? 0 : this.#name.address;
    sender.sendRun(this.#memory.address, this.#length, this.#size, this.#count, to, this.#nameLength);
  }

  #begin(sender: RunSender, addresses: Uint32Array | undefined, index: number, size: number): void {
    this.#sender = sender;
    this.#size = size;
    this.#length = 0;
    this.#count = 0;
    this.#nameLength = 0;
    if (addresses === undefined) return;
    this.#nameLength = putSockaddr(this.#name.memory.bytes, 0, addresses, index);
    for (let i = 0; i < ADDRESS_WORDS; i++) this.#peer[i] = addresses[index * ADDRESS_WORDS + i]!;
  }
}

/** The sending half of a socket that sends runs. */
export class RunSender {
  readonly #fd: number;
  readonly #runs: DatagramRuns;
  /** The socket's UDP_SEGMENT: longer messages than this are cut. 0: none is. */
  #segment = 0;
  #canSegment = true;
  #failure = 0;
  /** Datagrams that did not leave and have not been told of. */
  #failed = 0;

  constructor(fd: number, runs: DatagramRuns) {
    this.#fd = fd;
    this.#runs = runs;
  }

  /** Takes a datagram; `length`, or why an earlier one did not leave (as −errno). */
  write(
    addresses: Uint32Array | undefined,
    index: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): IoResult {
    if (length > RUN_BYTES) return -EMSGSIZE;
    this.#runs.add(this, addresses, index, bytes, offset, length);
    if (this.#failed === 0) return length;
    this.#failed--;
    return this.#failure;
  }

  /** For the runs: `count` datagrams of `size` bytes, the last one of what is left, to the socket address at `to`. */
  sendRun(address: number, length: number, size: number, count: number, to: number, toLength: number): void {
    const isRun = count > 1 ? this.#canSegment && this.#setSegment(size) : length <= this.#segment;
    if (isRun) {
      const code = this.#send(address, length, to, toLength);
      if (code === 0) return;
      // The device makes no checksums, or the path carries less than `size`: fragments are not made of runs.
      if (code !== EIO && code !== EINVAL && code !== EMSGSIZE) {
        this.#fail(code, count);
        return;
      }
      this.#canSegment = false;
    }
    this.#setSegment(0);
    for (let i = 0; i < count; i++) {
      const at = i * size;
      const code = this.#send(address + at, Math.min(size, length - at), to, toLength);
      if (code !== 0) this.#fail(code, 1);
    }
  }

  /** Returns 0 or errno. */
  #send(address: number, length: number, to: number, toLength: number): number {
    if (sendto(this.#fd, address, length, MSG_NOSIGNAL, to, toLength) >= 0) return 0;
    const code = errno();
    if (code !== ECONNREFUSED) return code;
    // The network's answer to an earlier datagram, which the kernel tells instead of sending.
    this.#fail(code, 1);
    return sendto(this.#fd, address, length, MSG_NOSIGNAL, to, toLength) >= 0 ? 0 : errno();
  }

  #fail(code: number, count: number): void {
    this.#failure = -code;
    this.#failed += count;
  }

  #setSegment(size: number): boolean {
    if (this.#segment === size) return true;
    if (!this.#runs.setSegment(this.#fd, size)) {
      this.#canSegment = false;
      return false;
    }
    this.#segment = size;
    return true;
  }
}
