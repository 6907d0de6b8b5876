/**
 * An engine between a client's stack and a host that echoes, all in one thread and by one clock:
 *
 *   client's stack ─ packets ─► Engine ─ dial, send ─► host          host: connected at once; what is sent comes back, then the end
 *
 * The clock is an argument, so that the same loop runs in real time and in a test's.
 */
import { createHmac } from 'node:crypto';
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { instantAt } from '../../src/base/time.js';
import { Engine } from '../../src/engine/engine.js';
import type { HostConnections } from '../../src/engine/host/connections.js';
import { PacketRing } from '../../src/engine/host/packet-ring.js';
import { Packetizer } from '../../src/netstack/packetizer.js';
import { Stack } from '../../src/netstack/stack.js';
import type { TcpHandlers } from '../../src/netstack/types.js';
import { createCrypto } from '../../src/os/crypto.js';
import { Arena } from '../../src/wire/arena.js';

/** Flows at once, and new ones a second: more than any of these runs wants. */
const FLOWS = 16_384;
const RATE = 1e6;
/** Room for packets on their way to the client: of one round, in which the engine sends at most what its windows allow. */
const TO_CLIENT_BYTES = 64 << 20;

export class EngineLoop {
  readonly engine: Engine;
  /** Connections the host knows. */
  readonly held = new Set<number>();
  /** Bytes the host was sent. */
  received = 0;
  /** Packets that the client was too slow for: they are sent again. */
  lost = 0;
  /** Whether what is sent comes back, with the end of the stream behind it. */
  echoes = true;
  readonly #now: () => number;
  readonly #client: Stack;
  readonly #out: Packetizer;
  readonly #toClient = new PacketRing(TO_CLIENT_BYTES);
  #due: { readonly at: number; readonly callback: () => void } | undefined;
  #flows = 0;

  /** @param now microseconds @param seed of everything random */
  constructor(now: () => number, seed: number) {
    this.#now = now;
    const entropy = new SeededEntropy(seed);
    this.engine = new Engine({
      device: {
        packets: (packets) => {
          for (const packet of packets) if (!this.#toClient.push(packet)) this.lost++;
        },
      },
      dialers: { host: this.#host() },
      platform: {
        now,
        schedule: (milliseconds, callback) => {
          const due = { at: now() + milliseconds * 1000, callback };
          this.#due = due;
          return () => {
            if (this.#due === due) this.#due = undefined;
          };
        },
        entropy,
        crypto: createCrypto(),
      },
      settings: {
        flows: { tcpFlows: FLOWS, tcpDials: FLOWS, newFlowRate: RATE, newFlowBurst: RATE },
        stack: { connections: 4 * FLOWS },
      },
    });
    this.#out = new Packetizer(new Arena(1 << 18), 256, (batch) => {
      const packets: Uint8Array[] = [];
      for (let i = 0; i < batch.count; i++) {
        const at = batch.table[2 * i]!;
        packets.push(batch.arena.bytes.subarray(at, at + batch.table[2 * i + 1]!));
      }
      this.engine.packets(packets);
    });
    this.#client = new Stack({
      mtu: 1500,
      sink: this.#out,
      handlers: {},
      entropy: new SeededEntropy(seed + 1),
      crypto: { hmacSha256: (key, data) => new Uint8Array(createHmac('sha256', key).update(data).digest()) },
      localV4: IpAddress.parse('10.83.0.1')!,
      // As programs on a kernel have it.
      tcp: { congestion: 'cubic' },
      limits: { connections: 4 * FLOWS },
    });
    this.engine.start();
  }

  get values(): Readonly<Record<string, number>> {
    return this.engine.snapshot().values;
  }

  /** A connection of the client's, each to an address of its own: no port comes back before its time. */
  connect(handlers: TcpHandlers) {
    const n = this.#flows++;
    const ip = IpAddress.v4((0x0b000000 + (n % 0x00ffffff)) >>> 0);
    return this.#client.connect(instantAt(this.#now()), new SocketAddress(ip, 80), handlers);
  }

  /** One round: the engine's turn if it is due, and the client's packets and timers. True when something happened. */
  step(): boolean {
    const now = instantAt(this.#now());
    const due = this.#due;
    let isBusy = false;
    if (due !== undefined && due.at <= now) {
      this.#due = undefined;
      due.callback();
      isBusy = true;
    }
    const arrived = this.#toClient.count;
    for (let left = arrived; left > 0; left--) {
      this.#toClient.shift((arena, offset, length) => void this.#client.handlePacket(now, arena, offset, length));
    }
    if ((this.#client.pollTimeout() ?? Number.POSITIVE_INFINITY) <= now) this.#client.handleTimeout(now);
    this.#client.flush(now);
    this.#out.flush();
    return isBusy || arrived > 0;
  }

  #host(): HostConnections {
    return {
      dial: ({ id }) => {
        this.held.add(id);
        this.engine.connected(id);
      },
      send: (id, bytes) => {
        this.received += bytes.length;
        if (!this.echoes) return true;
        this.engine.received(id, bytes);
        this.engine.ended(id);
        return true;
      },
      end: () => {},
      close: (id) => void this.held.delete(id),
      pause: () => {},
      resume: () => {},
    };
  }
}
