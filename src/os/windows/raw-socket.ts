/**
 * The one raw socket of a tracer without the driver: it sends whole IPv4 packets and sees what comes in for this host. No filter:
 * whoever reads the packets judges every field.
 *
 *   bound ──first packet sent──► polled on a thread of the pool ──readable──► read here until nothing waits ──► polled …
 *
 * It sends no IPv6 headers and, by rule of the system, no TCP.
 */
import { type IpAddress, SocketAddress } from '../../base/address.js';
import type { Instant } from '../../base/time.js';
import { EMSGSIZE, type IoResult } from '../io.js';
import type { PacketCounters, PacketHandler } from '../packet-io.js';
import {
  AF_INET,
  FIONBIO,
  IP_HDRINCL,
  IPPROTO_IP,
  POLLRDNORM,
  SO_RCVBUF,
  SOCK_RAW,
  SOL_SOCKET,
  WSAEMSGSIZE,
} from './constants.js';
import { must, portable } from './errors.js';
import { integer, sockaddr } from './sockaddr.js';
import type { WindowsSystem } from './system.js';

/** Room for one packet; what is longer is cut off and counted. */
const ENTRY_BYTES = 2048;
const BUFFER_BYTES = 1 << 20;
/** Packets read before other work gets its turn. */
const READS_PER_DRAIN = 1024;
/** One poll; the socket is closed at most this much after it was told so. */
const POLL_MS = 100;
const LARGEST = 65_535;

export class RawSocket {
  readonly counters: PacketCounters = { packets: 0, unusable: 0 };
  readonly #system: WindowsSystem;
  readonly #now: () => Instant;
  readonly #socket: number;
  readonly #entry = new Uint8Array(ENTRY_BYTES);
  readonly #out = new Uint8Array(LARGEST);
  #handler: PacketHandler | undefined;
  #polling = false;
  #open = true;
  sentAt: Instant;

  /** @param local what the socket is bound to: it sees packets for this address. @throws SallyportError RAW_NOT_PERMITTED */
  constructor(system: WindowsSystem, local: IpAddress, now: () => Instant) {
    this.#system = system;
    this.#now = now;
    this.sentAt = now();
    this.#socket = must(system.socket(AF_INET, SOCK_RAW, IPPROTO_IP), 'opening a raw socket');
    try {
      must(system.setsockopt(this.#socket, IPPROTO_IP, IP_HDRINCL, integer(1)), 'IP_HDRINCL');
      system.setsockopt(this.#socket, SOL_SOCKET, SO_RCVBUF, integer(BUFFER_BYTES));
      must(system.ioctlsocket(this.#socket, FIONBIO, integer(1)), 'FIONBIO');
      must(system.bind(this.#socket, sockaddr(new SocketAddress(local, 0))), `binding to ${local}`);
    } catch (error) {
      system.closesocket(this.#socket);
      throw error;
    }
  }

  /** Undefined: nobody reads. */
  read(handler: PacketHandler | undefined): void {
    this.#handler = handler;
  }

  send(bytes: Uint8Array, offset: number, length: number, to: IpAddress): IoResult {
    if (length > LARGEST) return -EMSGSIZE;
    this.#out.set(bytes.subarray(offset, offset + length));
    this.sentAt = this.#now();
    const sent = this.#system.sendto(this.#socket, this.#out, length, sockaddr(new SocketAddress(to, 0)));
    // A raw socket that has not sent anything yet cannot be read.
    if (sent >= 0 && !this.#polling) this.#poll();
    return portable(sent);
  }

  drain(): void {
    for (let i = 0; this.#open && i < READS_PER_DRAIN; i++) {
      const length = this.#system.recv(this.#socket, this.#entry);
      if (length === -WSAEMSGSIZE) {
        this.counters.unusable++;
        continue;
      }
      if (length <= 0) return;
      this.counters.packets++;
      this.#handler?.(this.#entry, 0, length, this.#now());
    }
  }

  /** The socket goes when the poll that is under way returns. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    if (!this.#polling) this.#system.closesocket(this.#socket);
  }

  #poll(): void {
    this.#polling = true;
    this.#system.pollLater(this.#socket, POLLRDNORM, POLL_MS, (ready) => {
      if (!this.#open) {
        this.#system.closesocket(this.#socket);
        return;
      }
      if (ready) this.drain();
      this.#poll();
    });
  }
}
