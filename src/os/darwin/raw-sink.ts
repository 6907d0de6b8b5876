/**
 * Sends whole IP packets on macOS.
 *
 *   IPv4   IP_HDRINCL; the kernel wants total length and fragment field in host order
 *   IPv6   no way to give a header: it is taken off, and hop limit, traffic class and source become properties of the socket, one for
 *          each transport protocol
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import type { Instant } from '../../base/time.js';
import { EMSGSIZE, type IoResult } from '../io.js';
import type { RawSink } from '../packet-io.js';
import {
  AF_INET,
  AF_INET6,
  IP_HDRINCL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_RAW,
  IPV6_TCLASS,
  IPV6_UNICAST_HOPS,
  SOCK_RAW,
} from './constants.js';
import { must, portable } from './errors.js';
import { sockaddr } from './sockaddr.js';
import type { DarwinSystem } from './system.js';

const IPV6_HEADER = 40;
const LARGEST = 65_535;

/** What the sink needs of the tracer it belongs to. */
export interface SinkParts {
  readonly system: DarwinSystem;
  now(): Instant;
  /** Makes a socket leave by the path's device. @throws SallyportError DEVICE_NOT_FOUND */
  bindDevice(fd: number, family: 4 | 6): void;
}

export class DarwinRawSink implements RawSink {
  readonly #parts: SinkParts;
  readonly #family: 4 | 6;
  readonly #scratch = new Uint8Array(LARGEST);
  /** By transport protocol; IPv4 has one for all. */
  readonly #sockets = new Map<number, number>();
  readonly #bound = new Set<number>();
  sentAt: Instant;

  /** @throws SallyportError RAW_NOT_PERMITTED, DEVICE_NOT_FOUND (environment) */
  constructor(parts: SinkParts, family: 4 | 6) {
    this.#parts = parts;
    this.#family = family;
    this.sentAt = parts.now();
    if (family === 4) this.#socket(IPPROTO_RAW);
  }

  send(bytes: Uint8Array, offset: number, length: number, to: IpAddress): IoResult {
    if (length > LARGEST) return -EMSGSIZE;
    this.#scratch.set(bytes.subarray(offset, offset + length));
    return this.#family === 4 ? this.#sendV4(length, to) : this.#sendV6(length, to);
  }

  close(): void {
    for (const fd of this.#sockets.values()) this.#parts.system.close(fd);
    this.#sockets.clear();
  }

  #sendV4(length: number, to: IpAddress): IoResult {
    const packet = this.#scratch;
    for (const field of [2, 6]) {
      const high = packet[field]!;
      packet[field] = packet[field + 1]!;
      packet[field + 1] = high;
    }
    return this.#sendTo(this.#socket(IPPROTO_RAW), packet, length, to);
  }

  #sendV6(length: number, to: IpAddress): IoResult {
    const packet = this.#scratch;
    const { system } = this.#parts;
    const protocol = packet[6]!;
    const fd = this.#socket(protocol);
    if (!this.#bound.has(fd)) {
      // One sink sends from one address: a run's.
      const source = IpAddress.fromBytes(packet.slice(8, 24));
      const bound = system.bind(fd, sockaddr(new SocketAddress(source, 0)));
      if (bound < 0) return portable(bound);
      this.#bound.add(fd);
    }
    const trafficClass = ((packet[0]! << 4) | (packet[1]! >>> 4)) & 0xff;
    for (const [option, value] of [
      [IPV6_UNICAST_HOPS, packet[7]!],
      [IPV6_TCLASS, trafficClass],
    ] as const) {
      const set = system.setsockopt(fd, IPPROTO_IPV6, option, integer(value));
      if (set < 0) return portable(set);
    }
    const sent = this.#sendTo(fd, packet.subarray(IPV6_HEADER), length - IPV6_HEADER, to);
    return sent < 0 ? sent : sent + IPV6_HEADER;
  }

  #sendTo(fd: number, bytes: Uint8Array, length: number, to: IpAddress): IoResult {
    this.sentAt = this.#parts.now();
    return portable(this.#parts.system.sendto(fd, bytes, length, sockaddr(new SocketAddress(to, 0))));
  }

  #socket(protocol: number): number {
    const known = this.#sockets.get(protocol);
    if (known !== undefined) return known;
    const { system } = this.#parts;
    const fd = must(system.socket(this.#family === 4 ? AF_INET : AF_INET6, SOCK_RAW, protocol), 'opening a raw socket');
    this.#sockets.set(protocol, fd);
    try {
      if (this.#family === 4) must(system.setsockopt(fd, IPPROTO_IP, IP_HDRINCL, integer(1)), 'IP_HDRINCL');
      this.#parts.bindDevice(fd, this.#family);
    } catch (error) {
      this.#sockets.delete(protocol);
      system.close(fd);
      throw error;
    }
    return fd;
  }
}

/** An int, as options take it. */
export function integer(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setInt32(0, value, true);
  return out;
}
