/**
 * A probe without privileges: a TCP connection attempt that fails as soon as a router's error comes, and tells whose.
 *
 *   TCP_FAIL_CONNECT_ON_ICMP_ERROR · TTL ─► connect ─► polled in steps ─► SO_ERROR
 *       0              connected: the destination        WSAECONNREFUSED   reset: the destination
 *       host unreachable ─► TCP_ICMP_ERROR_INFO: the router
 */
import type { SocketAddress } from '../../base/address.js';
import type { Instant } from '../../base/time.js';
import type { IoResult } from '../io.js';
import type { ProbeError, ProbeHandlers, ProbeSocket } from '../packet-io.js';
import {
  AF_INET,
  AF_INET6,
  FIONBIO,
  ICMP_ERROR_INFO_BYTES,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_UNICAST_HOPS,
  POLLWRNORM,
  SO_ERROR,
  SOCK_STREAM,
  SOL_SOCKET,
  TCP_FAIL_CONNECT_ON_ICMP_ERROR,
  TCP_ICMP_ERROR_INFO,
  WSAEHOSTUNREACH,
  WSAEWOULDBLOCK,
} from './constants.js';
import { must, portable } from './errors.js';
import { integer, parseSockaddr, SOCKADDR_ROOM, sockaddr } from './sockaddr.js';
import type { WindowsSystem } from './system.js';

const STEP_MS = 100;
/** Where ICMP_ERROR_INFO has type and code: behind the address and the protocol. */
const TYPE = SOCKADDR_ROOM + 4;

export class TcpProbe implements ProbeSocket {
  readonly local: SocketAddress;
  readonly #system: WindowsSystem;
  readonly #to: SocketAddress;
  readonly #handlers: ProbeHandlers;
  readonly #now: () => Instant;
  readonly #socket: number;
  #connecting = false;
  #polling = false;
  #open = true;

  /** @param local to leave from. @throws SallyportError ADDRESS_IN_USE … (environment) */
  constructor(
    system: WindowsSystem,
    local: SocketAddress,
    to: SocketAddress,
    handlers: ProbeHandlers,
    now: () => Instant,
  ) {
    this.#system = system;
    this.#to = to;
    this.#handlers = handlers;
    this.#now = now;
    this.#socket = must(system.socket(to.ip.isV4 ? AF_INET : AF_INET6, SOCK_STREAM, IPPROTO_TCP), 'opening a socket');
    try {
      must(system.ioctlsocket(this.#socket, FIONBIO, integer(1)), 'FIONBIO');
      const fail = system.setsockopt(this.#socket, IPPROTO_TCP, TCP_FAIL_CONNECT_ON_ICMP_ERROR, integer(1));
      must(fail, 'TCP_FAIL_CONNECT_ON_ICMP_ERROR');
      must(system.bind(this.#socket, sockaddr(local)), `binding to ${local}`);
      const bound = new Uint8Array(SOCKADDR_ROOM);
      must(system.getsockname(this.#socket, bound), 'getsockname');
      this.local = parseSockaddr(bound) ?? local;
    } catch (error) {
      system.closesocket(this.#socket);
      throw error;
    }
  }

  send(ttl: number): IoResult {
    const [level, option] = this.#to.ip.isV4 ? [IPPROTO_IP, IP_TTL] : [IPPROTO_IPV6, IPV6_UNICAST_HOPS];
    const set = this.#system.setsockopt(this.#socket, level, option, integer(ttl));
    if (set < 0) return portable(set);
    const connected = this.#system.connect(this.#socket, sockaddr(this.#to));
    if (connected < 0 && connected !== -WSAEWOULDBLOCK) return portable(connected);
    this.#connecting = true;
    this.#poll();
    return 0;
  }

  /** Systems before Windows 10 2004 do not report a failed attempt to a poll: the socket is asked itself. */
  drain(): void {
    if (this.#connecting) this.#ask(false);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#connecting = false;
    if (!this.#polling) this.#system.closesocket(this.#socket);
  }

  #poll(): void {
    this.#polling = true;
    this.#system.pollLater(this.#socket, POLLWRNORM, STEP_MS, (ready) => {
      this.#polling = false;
      if (!this.#open) {
        this.#system.closesocket(this.#socket);
        return;
      }
      if (this.#connecting) this.#ask(ready);
      if (this.#open && this.#connecting) this.#poll();
    });
  }

  /** @param isOver the attempt has an outcome, whatever SO_ERROR says */
  #ask(isOver: boolean): void {
    const value = integer(0);
    if (this.#system.getsockopt(this.#socket, SOL_SOCKET, SO_ERROR, value) < 0) return;
    const error = new DataView(value.buffer).getInt32(0, true);
    if (error === 0 && !isOver) return;
    this.#connecting = false;
    const told = error === WSAEHOSTUNREACH ? this.#router() : undefined;
    if (told === undefined) this.#handlers.onConnect(portable(-error) || 0, this.#now());
    else this.#handlers.onError(told);
  }

  #router(): ProbeError | undefined {
    const info = new Uint8Array(ICMP_ERROR_INFO_BYTES);
    if (this.#system.getsockopt(this.#socket, IPPROTO_TCP, TCP_ICMP_ERROR_INFO, info) < 0) return undefined;
    const from = parseSockaddr(info)?.ip;
    if (from === undefined) return undefined;
    const at = this.#now();
    return { from, icmpType: info[TYPE]!, icmpCode: info[TYPE + 1]!, mtu: 0, at, quote: NOTHING, quoted: 0 };
  }
}

const NOTHING = new Uint8Array(0);
