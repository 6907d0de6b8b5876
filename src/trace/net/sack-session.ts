/**
 * The connection that SACK probes are sent into: opened by the host's own stack, its handshake read from the capture.
 *
 *   connect ─► established ─┬─ SYN+ACK seen with SACK-permitted ─► SessionState
 *                           ├─ … without it ─────────────────────► NOT_SUPPORTED
 *           └► refused ─────┼────────────────────────────────────► NOT_SUPPORTED (the dial failed)
 *                           └─ not seen within 500 ms ───────────► NO_HANDSHAKE
 *
 * RFC 9293 §3.5, RFC 2018 §2, RFC 7323 §3.2.
 */
import type { SocketAddress } from '../../base/address.js';
import { type Duration, later, Millis } from '../../base/time.js';
import { ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT } from '../../os/io.js';
import type { PacketIo, SessionConnection } from '../../os/packet-io.js';
import { PROTO_TCP, TCP_HEADER } from '../../wire/ip.js';
import { readTcpOptions, TCP_ACK, TCP_SYN, TcpOptions } from '../../wire/tcp.js';
import type { Reply } from './reply.js';
import type { SessionState } from './sack.js';

/** The kernel has the SYN+ACK before `connect` reports success; this is for a busy main thread. */
const HANDSHAKE_WAIT: Duration = Millis(500);

const REASONS: Readonly<Record<number, string>> = {
  [ECONNREFUSED]: 'connection refused',
  [EHOSTUNREACH]: 'no route to host',
  [ENETUNREACH]: 'network is unreachable',
  [ETIMEDOUT]: 'i/o timeout',
};

/** Why there is no session. `supported` false: the target or the way to it cannot do it; other methods may. */
export class SackFailure extends Error {
  readonly supported: boolean;
  constructor(message: string, supported: boolean) {
    super(message);
    this.supported = supported;
  }
}

export class SackSession {
  readonly #io: PacketIo;
  readonly #connection: SessionConnection;
  readonly #target: SocketAddress;
  readonly #options = new TcpOptions();
  #state: SessionState | undefined;
  #withoutSack = false;
  #seen: (() => void) | undefined;

  constructor(io: PacketIo, connection: SessionConnection, target: SocketAddress) {
    this.#io = io;
    this.#connection = connection;
    this.#target = target;
  }

  /** A captured packet to the connection's port. */
  receive(reply: Reply): void {
    const { packet, error } = reply;
    const isSynAck = (packet.tcpFlags & (TCP_SYN | TCP_ACK)) === (TCP_SYN | TCP_ACK);
    if (error !== undefined || packet.protocol !== PROTO_TCP || !isSynAck || this.#state !== undefined) return;
    if (!reply.isFrom(this.#target.ip) || packet.sourcePort !== this.#target.port) return;
    const start = packet.transportOffset + TCP_HEADER;
    readTcpOptions(reply.bytes, start, packet.transportOffset + packet.tcpHeaderLength, this.#options);
    const { hasTimestamps, timestampValue, timestampEcho, sackPermitted } = this.#options;
    if (!sackPermitted) this.#withoutSack = true;
    this.#state = {
      sequence: packet.acknowledgment,
      acknowledgment: (packet.sequence + 1) >>> 0,
      ...(hasTimestamps ? { timestamps: { value: timestampValue, echo: timestampEcho } } : {}),
    };
    this.#seen?.();
  }

  /** Rejects with `SackFailure`. @param timeout for the connection */
  async open(timeout: Duration): Promise<SessionState> {
    const result = await this.#within(timeout, (done) => this.#connection.connect(done), -ETIMEDOUT);
    if (result !== 0) {
      const reason = REASONS[-result] ?? `errno ${-result}`;
      throw new SackFailure(`sack traceroute failed to dial: dial tcp ${this.#target}: ${reason}`, false);
    }
    if (this.#state === undefined) {
      await this.#within(
        HANDSHAKE_WAIT,
        (done) => {
          this.#seen = () => done(0);
        },
        0,
      );
    }
    if (this.#state === undefined) throw new SackFailure('sackDriver readHandshake timed out', true);
    if (this.#withoutSack) {
      const text = `SACK not supported by the target ${this.#target} (missing SACK-permitted option)`;
      throw new SackFailure(text, false);
    }
    return this.#state;
  }

  #within(span: Duration, start: (done: (result: number) => void) => void, late: number): Promise<number> {
    return new Promise((resolve) => {
      const cancel = this.#io.at(later(this.#io.now(), span), () => resolve(late));
      start((result) => {
        cancel();
        resolve(result);
      });
    });
  }
}
