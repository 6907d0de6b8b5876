/**
 * Tells when the host's network may have changed: a socket that is in the kernel's groups of links, addresses and routes of both
 * families (rtnetlink(7); no privilege is needed), watched by the packet thread's own loop. At rest it wakes nobody.
 *
 *   quiet ──message──► gathering ──QUIET without another, or LONGEST──► told once ──► quiet
 *
 * A network that changes does so in several steps, and what is told in the middle of them would be read for nothing.
 */
import { type Duration, elapsed, type Instant, later, Millis, Seconds } from '../../base/time.js';
import { EAGAIN, ENOBUFS, READABLE, type Reactor, type Watch } from '../io.js';
import {
  AF_NETLINK,
  EINTR,
  NETLINK_ROUTE,
  RTMGRP_IPV4_IFADDR,
  RTMGRP_IPV4_ROUTE,
  RTMGRP_IPV6_IFADDR,
  RTMGRP_IPV6_ROUTE,
  RTMGRP_LINK,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
} from './constants.js';
import { bind, close, recvfrom, result, socket } from './libc.js';
import { NativeMemory } from './memory.js';
import { tellsOfChange } from './rtnetlink.js';

const GROUPS = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE;
/** No message for this long: the change is whole. */
const QUIET: Duration = Millis(50);
/** A network that changes without end (a router's routes) is told of this often. */
const LONGEST: Duration = Seconds(1);
/** The kernel's messages are at most a page or 8 KB. */
const MEMORY_BYTES = 16_384;
/** Messages taken in one turn; the loop comes back for the rest. */
const READS_PER_TURN = 32;
/** struct sockaddr_nl: family u16 · padding u16 · port u32 · groups u32. */
const SOCKADDR_LENGTH = 12;
const PORT_WORD = 1;
const GROUPS_WORD = 2;
/** After the sockaddr: its length. */
const LENGTH_WORD = 4;

export interface NetworkEvents {
  close(): void;
}

/**
 * Calls `onChange` after every change; `false`: nothing more will be told, look yourself. Undefined where the kernel has no such
 * socket or does not let us have one.
 */
export function watchNetworkEvents(
  reactor: Reactor,
  onChange: (isWatched: boolean) => void,
): NetworkEvents | undefined {
  const fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return undefined;
  const name = NativeMemory.allocate(24);
  const words = name.words();
  words[0] = AF_NETLINK;
  words[GROUPS_WORD] = GROUPS;
  if (bind(fd, name.address, SOCKADDR_LENGTH) !== 0) {
    close(fd);
    return undefined;
  }
  return new Subscription(reactor, fd, name, onChange);
}

class Subscription implements NetworkEvents {
  readonly #reactor: Reactor;
  readonly #fd: number;
  readonly #name: NativeMemory;
  readonly #words: Uint32Array;
  readonly #memory = NativeMemory.allocate(MEMORY_BYTES);
  readonly #watch: Watch;
  readonly #onChange: (isWatched: boolean) => void;
  /** First and last message of the change that is gathered. */
  #first: Instant | undefined;
  #last: Instant = 0 as Instant;
  #cancel = (): void => {};
  #isOpen = true;

  constructor(reactor: Reactor, fd: number, name: NativeMemory, onChange: (isWatched: boolean) => void) {
    this.#reactor = reactor;
    this.#fd = fd;
    this.#name = name;
    this.#words = name.words();
    this.#onChange = onChange;
    this.#watch = reactor.watch(fd, READABLE, () => this.#receive());
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#cancel();
    this.#watch.close();
    close(this.#fd);
  }

  #receive(): void {
    for (let reads = 0; reads < READS_PER_TURN; reads++) {
      const got = this.#read();
      if (got === -EAGAIN || got === -EINTR) return;
      if (got < 0 && got !== -ENOBUFS) {
        this.close();
        this.#onChange(false);
        return;
      }
      // ENOBUFS: messages were lost. A process's own messages are no business of ours: only the kernel has port 0.
      if (got === -ENOBUFS || (this.#words[PORT_WORD] === 0 && tellsOfChange(this.#memory.bytes, got))) this.#note();
    }
  }

  #read(): number {
    this.#words[LENGTH_WORD] = SOCKADDR_LENGTH;
    const { address } = this.#name;
    return result(recvfrom(this.#fd, this.#memory.address, MEMORY_BYTES, 0, address, address + LENGTH_WORD * 4));
  }

  #note(): void {
    this.#last = this.#reactor.now();
    if (this.#first !== undefined) return;
    this.#first = this.#last;
    this.#cancel = this.#reactor.at(later(this.#last, QUIET), (now) => this.#tell(now));
  }

  #tell(now: Instant): void {
    const quietAt = later(this.#last, QUIET);
    if (now < quietAt && elapsed(this.#first!, now) < LONGEST) {
      this.#cancel = this.#reactor.at(quietAt, (at) => this.#tell(at));
      return;
    }
    this.#first = undefined;
    this.#onChange(true);
  }
}
