/**
 * Datagrams to the small sockets of a thread arrive in batches: one recvmmsg brings several messages, and a message may be a run of
 * equal datagrams of one peer (UDP_GRO), which is cut apart here.
 *
 *   memory, one for all sockets:   message 0 = datagram · datagram · shorter one │ message 1 = datagram │ …  ─► take, one by one
 *
 * A batch is given away before the call that read it returns, so that nothing is ever left in a memory that the next socket needs.
 */
import { ADDRESS_WORDS, IpAddress, SocketAddress } from '../../base/address.js';
import type { IoResult, TakeDatagram, UdpCounters } from '../io.js';
import { EMSGSIZE } from '../io.js';
import { IPPROTO_UDP, UDP_GRO } from './constants.js';
import { tryOption } from './socket.js';
import { UdpReceiver } from './udp-receive.js';

/** One socket's share of a turn, in datagrams: about what 64 KB of the usual size are. */
const SHARE = 64;
/** Messages of one call before it is known how many datagrams a message holds: at most four shares. */
const FIRST_MESSAGES = 4;
/** Messages of one call at most. */
const MESSAGES = 64;
/** Room of a message: the largest datagram, and the longest run (64 KB as well). Pages that nothing was read into cost nothing. */
const MESSAGE_BYTES = 65_536;
const UNKNOWN = new SocketAddress(IpAddress.v4(0), 0);

/** One per thread. */
export class DatagramArrivals {
  readonly #messageBytes: number;
  readonly #counters: UdpCounters = {
    datagramsIn: 0,
    datagramsOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    sendBlocked: 0,
    sendFailed: 0,
    receiveErrors: 0,
  };
  #receiver: UdpReceiver | undefined;

  constructor(messageBytes = MESSAGE_BYTES) {
    this.#messageBytes = messageBytes;
  }

  /** What the last call of any socket has read. */
  get batch(): UdpReceiver {
    // Many threads never open a small socket.
    this.#receiver ??= new UdpReceiver(UNKNOWN, this.#counters, MESSAGES, this.#messageBytes);
    return this.#receiver;
  }

  /** Messages that were lost since the thread began: longer than their room, or without a sender's address. Errors count too. */
  get errors(): number {
    return this.#counters.receiveErrors;
  }
}

/** The receiving half of a small socket. */
export class RunReceiver {
  /** Packed address of the sender; undefined for a connected socket, whose peer is known. */
  readonly #source: Uint32Array | undefined;
  readonly #fd: number;
  readonly #arrivals: DatagramArrivals;
  #messages = FIRST_MESSAGES;
  #open = true;

  constructor(fd: number, arrivals: DatagramArrivals, source?: Uint32Array) {
    this.#fd = fd;
    this.#arrivals = arrivals;
    this.#source = source;
    // Where the kernel has no such option every message is one datagram.
    tryOption(fd, IPPROTO_UDP, UDP_GRO, 1);
  }

  /** See `UdpFlowSocket.receive`. */
  receive(take: TakeDatagram): IoResult {
    const { batch, errors } = this.#arrivals;
    const count = batch.receiveOnce(this.#fd, this.#messages);
    if (count < 0) return count;
    const { memory, offsets, lengths, segments } = batch;
    let taken = 0;
    for (let i = 0; i < count; i++) {
      this.#takeSource(batch.sources, i);
      const segment = segments[i]!;
      let at = offsets[i]!;
      const end = at + lengths[i]!;
      do {
        if (!this.#open) return taken;
        take(memory, at, Math.min(segment, end - at));
        taken++;
        at += segment;
      } while (at < end);
    }
    if (taken > 0) this.#messages = Math.min(MESSAGES, Math.max(1, Math.floor((SHARE * count) / taken)));
    return this.#arrivals.errors === errors ? taken : -EMSGSIZE;
  }

  /** Nothing is given to anybody any more, not even what was read already. */
  close(): void {
    this.#open = false;
  }

  #takeSource(sources: Uint32Array, index: number): void {
    const source = this.#source;
    if (source === undefined) return;
    for (let i = 0; i < ADDRESS_WORDS; i++) source[i] = sources[index * ADDRESS_WORDS + i]!;
  }
}
