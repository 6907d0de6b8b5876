/**
 * Many enrolled agents in one process, each with a relay connection of its own: one QUIC endpoint with the options of a real
 * node's, one UDP socket per family, another certificate and proof for every connection. They say hello and then keep their
 * connections alive, as a node with nothing to do.
 */

import { SocketAddress } from '../src/base/address.js';
import type { Instant } from '../src/base/time.js';
import type { UdpSocket } from '../src/os/io.js';
import { createReactor } from '../src/os/linux/linux.js';
import type { CloseReason, ConnectionHandler, QuicConnection } from '../src/quic/connection.js';
import { decodeMessage, encodeMessage, FromRelay, PROTOCOL_VERSION } from '../src/tunnel/messages.js';
import { openBareNode } from '../test/lab/bare-node.js';
import type { EnrolledAgent, EnrolledCrowd } from '../test/lab/enrolled.js';

/** Handshakes at once: a relay takes 32 from one source. */
const AT_ONCE = 16;

/** One node's relay connection. */
class IdleConnection implements ConnectionHandler {
  constructor(
    private readonly agent: EnrolledAgent,
    private readonly clients: IdleClients,
  ) {}

  onConnected(_now: Instant, connection: QuicConnection): void {
    connection.openControl().send(
      encodeMessage({
        type: 'hello',
        version: PROTOCOL_VERSION,
        role: 'agent',
        software: 'bench',
        capabilities: [],
        proof: this.agent.proof,
      }),
    );
  }

  onControlMessage(_now: Instant, bytes: Uint8Array): void {
    const decoded = decodeMessage(FromRelay, bytes);
    if (decoded.ok && decoded.message.type === 'hello') this.clients.onAdmitted();
  }

  onPush(): void {
    // Policies and catalogues.
  }

  onDatagrams(): void {
    // OBSERVED.
  }

  onClosed(_now: Instant, reason: CloseReason): void {
    this.clients.onClosed(reason);
  }
}

export class IdleClients {
  admitted = 0;
  /** How connections have ended, in words. */
  readonly ended = new Map<string, number>();
  readonly #reactor = createReactor({
    onError: (error) => {
      throw error;
    },
  });
  readonly #sockets: readonly UdpSocket[];
  readonly #agents: readonly EnrolledAgent[];
  #wanted = 0;
  #begun = 0;
  #settled: (() => void) | undefined;
  #running: Promise<void>;

  constructor(crowd: EnrolledCrowd, relay: string) {
    this.#agents = crowd.agents;
    const address = SocketAddress.parse(relay)!;
    const node = openBareNode(this.#reactor, crowd, address, (now, { be, endpoints }) => {
      while (this.#begun < this.#wanted && this.#begun - this.admitted < AT_ONCE) {
        const agent = this.#agents[this.#begun++]!;
        be(agent);
        endpoints.relay.connect(now, address, crowd.relayName, new IdleConnection(agent, this));
      }
      return undefined;
    });
    this.#sockets = node.sockets;
    this.#running = this.#reactor.run();
  }

  /** Connections that are open now. */
  get open(): number {
    return this.admitted - [...this.ended.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Datagrams sent and received so far. */
  get datagrams(): number {
    return this.#sockets.reduce((sum, { counters }) => sum + counters.datagramsIn + counters.datagramsOut, 0);
  }

  /** Connects until `count` have been admitted altogether; rejects when one is closed meanwhile. */
  async connect(count: number): Promise<void> {
    this.#wanted = Math.min(count, this.#agents.length);
    await this.#until(() => this.admitted === this.#wanted);
  }

  /** Until the relay has ended every connection. */
  async allClosed(): Promise<void> {
    await this.#until(() => this.open === 0);
  }

  async stop(): Promise<void> {
    this.#reactor.stop();
    await this.#running;
    for (const socket of this.#sockets) socket.close();
  }

  onAdmitted(): void {
    this.admitted++;
    this.#settled?.();
  }

  onClosed(reason: CloseReason): void {
    const text = `${reason.kind}: ${reason.text}`;
    this.ended.set(text, (this.ended.get(text) ?? 0) + 1);
    this.#settled?.();
  }

  #until(holds: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const before = this.ended.size;
      this.#settled = () => {
        if (holds()) resolve();
        else if (this.admitted < this.#wanted && this.ended.size > before) {
          reject(new Error(`a connection was closed: ${[...this.ended.keys()].join('; ')}`));
        }
      };
      this.#settled();
    });
  }
}
