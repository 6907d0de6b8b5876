/**
 * Datagrams of one socket to one peer leave as a run that the kernel cuts apart (UDP_SEGMENT): one way through its network stack for
 * all of them. Every socket puts a run of its own together, so that datagrams of many sockets may come in any order.
 *
 *   write (equal sizes) ─┬─ another peer or a larger size · 32 datagrams ─────────────► the run before is sent
 *                        ├─ a smaller one: the last of its run ───────────────────────► sent
 *                        └─ `flush`, within the turn · no room for any more ──────────► the runs of all sockets are sent
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
/** Datagrams that wait, of all sockets, and their bytes: about what one turn reads from a device, and a part of a core's cache. */
const DATAGRAMS = 1024;
const STORE_BYTES = 256 * 1024;

/** One per thread. */
export class DatagramRuns {
  /** Datagrams in the order they came. */
  readonly #store = NativeMemory.allocate(STORE_BYTES);
  readonly #offsets = new Int32Array(DATAGRAMS);
  readonly #lengths = new Int32Array(DATAGRAMS);
  /** The next datagram of the same run. */
  readonly #next = new Int32Array(DATAGRAMS);
  /** Of the first datagram of a run: where to. */
  readonly #peers = new Uint32Array(DATAGRAMS * ADDRESS_WORDS);
  /** A run whose datagrams do not lie one behind the other. */
  readonly #gathered = NativeMemory.allocate(RUN_BYTES);
  readonly #name = new SockaddrBuffer();
  readonly #option = NativeMemory.allocate(8);
  readonly #optionValue = this.#option.ints();
  /** Whose runs are to be sent by `flush`, in the order they began. */
  readonly #senders = new Array<RunSender | undefined>(DATAGRAMS);
  #senderCount = 0;
  #bytes = 0;
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
      // An empty datagram cannot be told from the end of the run before it.
      length > 0 &&
      length <= sender.size &&
      sender.bytes + length <= RUN_BYTES &&
      (addresses === undefined || sameWords(addresses, index, this.#peers, sender.first));
    if (!goesOn) this.send(sender);
    if (this.#count === DATAGRAMS || this.#bytes + length > STORE_BYTES) this.flush();
    const datagram = this.#count++;
    const at = this.#bytes;
    copy(bytes, offset, this.#store.bytes, at, length);
    this.#offsets[datagram] = at;
    this.#lengths[datagram] = length;
    this.#bytes = at + length;
    if (sender.count === 0) this.#begin(sender, datagram, addresses, index, length);
    else {
      const { last } = sender;
      this.#next[last] = datagram;
      if (this.#offsets[last]! + this.#lengths[last]! !== at) sender.isScattered = true;
    }
    sender.last = datagram;
    sender.bytes += length;
    sender.count++;
    if (length < sender.size || length === 0 || sender.count === LONGEST_RUN) this.send(sender);
  }

  /** Of the socket `fd`: 0 for none. False where the kernel knows of no segments. */
  setSegment(fd: number, size: number): boolean {
    this.#optionValue[0] = size;
    return setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, this.#option.address, 4) === 0;
  }

  /** Sends what there is of every socket. */
  flush(): void {
    for (let i = 0; i < this.#senderCount; i++) {
      const sender = this.#senders[i]!;
      this.#senders[i] = undefined;
      sender.isListed = false;
      this.send(sender);
    }
    this.#senderCount = 0;
    this.#count = 0;
    this.#bytes = 0;
  }

  /** Sends what there is of this socket. */
  send(sender: RunSender): void {
    const { count, bytes, first, size } = sender;
    if (count === 0) return;
    sender.count = 0;
    sender.bytes = 0;
    let address = this.#store.address + this.#offsets[first]!;
    if (sender.isScattered) {
      this.#gather(first, count);
      address = this.#gathered.address;
    }
    const nameLength = sender.isConnected ? 0 : putSockaddr(this.#name.memory.bytes, 0, this.#peers, first);
    sender.sendRun(address, bytes, size, count, nameLength === 0 ? 0 : this.#name.address, nameLength);
  }

  #begin(sender: RunSender, datagram: number, addresses: Uint32Array | undefined, index: number, size: number): void {
    sender.first = datagram;
    sender.size = size;
    sender.isScattered = false;
    sender.isConnected = addresses === undefined;
    if (!sender.isListed) {
      sender.isListed = true;
      this.#senders[this.#senderCount++] = sender;
    }
    if (addresses === undefined) return;
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      this.#peers[datagram * ADDRESS_WORDS + i] = addresses[index * ADDRESS_WORDS + i]!;
    }
  }

  #gather(first: number, count: number): void {
    let to = 0;
    for (let i = 0, datagram = first; i < count; i++, datagram = this.#next[datagram]!) {
      const length = this.#lengths[datagram]!;
      copy(this.#store.bytes, this.#offsets[datagram]!, this.#gathered.bytes, to, length);
      to += length;
    }
  }
}

/** The sending half of a socket that sends runs. */
export class RunSender {
  // The run that is being put together, which is its `DatagramRuns`' to keep: of `count` datagrams.
  count = 0;
  bytes = 0;
  size = 0;
  first = 0;
  last = 0;
  isScattered = false;
  isConnected = false;
  /** It is among those that the next `flush` looks at. */
  isListed = false;
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
