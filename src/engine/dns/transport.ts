/**
 * What the resolver needs from outside: sockets of the host's dialers, TLS, a clock with timers. It opens nothing itself, and nothing
 * is ever bound to an address of this machine.
 */
import type { SocketAddress } from '../../base/address.js';
import type { Instant } from '../../base/time.js';
import type { ByteStream, ByteStreamHandlers } from '../../os/io.js';

/** Handlers are never called inside the call that made the socket, and never after its `close`. */
export interface DnsUdpHandlers {
  /** A datagram and whom it came from; the bytes are only lent. */
  onDatagram(from: SocketAddress, bytes: Uint8Array, offset: number, length: number): void;
  /** The path says that nobody is there (ICMP). */
  onError(): void;
}

export interface DnsUdp {
  send(bytes: Uint8Array): void;
  close(): void;
}

export type DnsStreamHandlers = ByteStreamHandlers;
export type DnsStream = ByteStream;

export interface DnsDialer {
  /** A socket with a random port of its own for datagrams to and from `to`; undefined when the host refuses. */
  udp(to: SocketAddress, handlers: DnsUdpHandlers): DnsUdp | undefined;
  tcp(to: SocketAddress, handlers: DnsStreamHandlers): DnsStream | undefined;
  /** `tls` may be asked for `h2`. */
  readonly http2?: boolean;
  /** A stream inside TLS, open once the certificate has shown `serverName`. Absent: no DNS over TLS or HTTPS. */
  tls?(
    to: SocketAddress,
    serverName: string,
    protocols: readonly string[],
    handlers: DnsStreamHandlers,
  ): DnsStream | undefined;
}

/** Part of a packet thread's reactor. */
export interface DnsTimers {
  now(): Instant;
  /** Calls `handler` once at or after `at`; returns a cancel function. */
  at(at: Instant, handler: (now: Instant) => void): () => void;
}

export const DNS_COUNTERS = [
  'dns_queries',
  'dns_hook_answers',
  'dns_cache_hits',
  'dns_stale_answers',
  'dns_joined',
  'dns_server_queries',
  'dns_answers',
  'dns_failures',
  'dns_timeouts',
  'dns_fallbacks',
  'dns_tls_opened',
  'dns_tls_failed',
  'dns_tls_untrusted',
  'dns_truncated',
  'dns_malformed',
  'dns_spoofed',
  'dns_case_mismatch',
  'dns_overload',
  'dns_hook_errors',
  'dns_fake_ip_answers',
  'dns_bad_queries',
] as const;
export type DnsCounter = (typeof DNS_COUNTERS)[number];
