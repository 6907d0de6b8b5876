/** The flows of one session behind a stack, and a client's stack in front of it: virtual time, no way in between. */
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { Counters } from '../../src/base/counters.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { type Duration, earliest, later, Millis } from '../../src/base/time.js';
import { type Dialer, DirectDialer } from '../../src/engine/dialer.js';
import {
  DEFAULT_FLOW_LIMITS,
  FLOW_COUNTERS,
  type FlowCounter,
  type FlowLimits,
} from '../../src/engine/flow-options.js';
import { Flows } from '../../src/engine/flows.js';
import { Stack } from '../../src/netstack/stack.js';
import type { TcpConnection } from '../../src/netstack/tcp/connection.js';
import type { TcpOptions } from '../../src/netstack/tcp/options.js';
import type { CloseReason, StackSink, TcpHandlers } from '../../src/netstack/types.js';
import { createCrypto } from '../../src/os/crypto.js';
import { Arena, align } from '../../src/wire/arena.js';
import { SimNetwork } from '../support/sim-network.js';
import { SimClock, SimReactor } from '../support/sim-reactor.js';
import { SimSockets } from '../support/sim-sockets.js';

const MTU = 1280;
export const CLIENT = '100.64.0.1';
export const at = (text: string): SocketAddress => SocketAddress.parse(text)!;

interface Wire {
  readonly packet: Arena;
  readonly length: number;
  readonly segment: number;
}

/** One connection of the client. */
export class Client implements TcpHandlers {
  connection!: TcpConnection;
  connected = false;
  closed: CloseReason | undefined;

  onConnected(): void {
    this.connected = true;
  }
  onData(_bytes: Uint8Array, _offset: number, length: number): number {
    return length;
  }
  onClosed(reason: CloseReason): void {
    this.closed = reason;
  }
}

export class Bench {
  readonly clock = new SimClock();
  readonly reactor = new SimReactor(this.clock);
  readonly sockets: SimSockets;
  readonly counters = new Counters<FlowCounter>(FLOW_COUNTERS);
  readonly client: Stack;
  readonly flows: Flows;
  /** Packets for the client that are none of its connections’. */
  readonly packets: Uint8Array[] = [];
  /** ICMP errors, which the client's stack is given too. */
  readonly errors: Uint8Array[] = [];
  /** What the router says: every destination is a service on the same address, unless it is listed here. */
  readonly denied = new Set<string>();
  readonly #toClient: Wire[] = [];
  readonly #toFlows: Wire[] = [];

  constructor(
    limits: Partial<FlowLimits> = {},
    makeDialer: (reactor: SimReactor, sockets: SimSockets) => Dialer = (reactor, sockets) =>
      new DirectDialer(reactor, sockets, limits.udpFiltering === undefined),
    tcp: Partial<TcpOptions> = {},
  ) {
    const path = { delay: Millis(1), loss: 0, maxPayload: 1472, isDown: false };
    this.sockets = new SimSockets(
      new SimNetwork(this.clock, 1),
      this.reactor,
      IpAddress.v4(0x0a000001),
      undefined,
      path,
    );
    const crypto = createCrypto();
    this.client = new Stack({
      mtu: MTU,
      sink: sinkInto(this.#toFlows),
      handlers: {},
      entropy: new SeededEntropy(1),
      crypto,
      localV4: IpAddress.parse(CLIENT)!,
    });
    this.flows = new Flows({
      reactor: this.reactor,
      dialer: makeDialer(this.reactor, this.sockets),
      router: {
        route: (_protocol, addresses) => {
          const address = SocketAddress.read(addresses, 1);
          return this.denied.has(address.ip.toString()) ? undefined : { service: address.ip.toString(), address };
        },
      },
      limits: { ...DEFAULT_FLOW_LIMITS, ...limits },
      counters: this.counters,
      stack: { mtu: MTU, sink: sinkInto(this.#toClient), entropy: new SeededEntropy(2), crypto, tcp },
      onActivity: () => {},
    });
  }

  connect(to: string): Client {
    const client = new Client();
    client.connection = this.client.connect(this.clock.now, at(to), client);
    return client;
  }

  /** Gives the flows one packet of a client that is no stack. */
  inject(packet: Uint8Array): void {
    const arena = new Arena(align(packet.length));
    arena.bytes.set(packet);
    this.flows.stack.handlePacket(this.clock.now, arena, 0, packet.length);
  }

  /** Everything that is due now. */
  settle(): void {
    for (let i = 0; i < 1000; i++) {
      const { now } = this.clock;
      if ((this.client.pollTimeout() ?? Number.POSITIVE_INFINITY) <= now) this.client.handleTimeout(now);
      this.client.flush(now);
      let busy = this.reactor.turn();
      this.flows.flush(now);
      for (const { packet, length, segment } of this.#toFlows.splice(0)) {
        busy = true;
        this.flows.stack.handlePacket(now, packet, 0, length, segment, true);
      }
      for (const { packet, length, segment } of this.#toClient.splice(0)) {
        busy = true;
        const isOfConnection = packet.bytes[9] === 6 || (packet.bytes[9] === 1 && packet.bytes[20] === 3);
        if (packet.bytes[9] === 1 && packet.bytes[20] === 3) this.errors.push(packet.bytes.slice(0, length));
        if (isOfConnection) this.client.handlePacket(now, packet, 0, length, segment, true);
        else this.packets.push(packet.bytes.slice(0, length));
      }
      if (!busy) return;
    }
    throw new Error('the flows do not come to rest');
  }

  run(span: Duration): void {
    const end = later(this.clock.now, span);
    for (;;) {
      this.settle();
      const timers = earliest(this.reactor.nextDue(), earliest(this.client.pollTimeout(), this.flows.nextTimeout()));
      if (timers === undefined || timers > end) break;
      if (timers > this.clock.now) this.clock.now = timers;
    }
    this.clock.now = end;
    this.settle();
  }
}

function sinkInto(wire: Wire[]): StackSink {
  const join = (...parts: readonly [Arena, number, number][]): { packet: Arena; length: number } => {
    const length = parts.reduce((sum, [, , n]) => sum + n, 0);
    const packet = new Arena(align(length));
    let to = 0;
    for (const [from, offset, n] of parts) {
      packet.bytes.set(from.bytes.subarray(offset, offset + n), to);
      to += n;
    }
    return { packet, length };
  };
  return {
    emit: (packet, offset, length) => {
      wire.push({ ...join([packet, offset, length]), segment: 0 });
    },
    emitTcp: (header, headerOffset, headerLength, payload, offset, length, segmentSize) => {
      const whole = join([header, headerOffset, headerLength], [payload, offset, length]);
      wire.push({ ...whole, segment: length > segmentSize ? segmentSize : 0 });
    },
  };
}
