/**
 * A host without any network: it keeps what the engine asks for, answers when the test says so, and its time moves only when
 * the test moves it. In front of the engine there may be a client's own stack.
 */
import { IpAddress, SocketAddress } from '../../../src/base/address.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { type Duration, earliest, type Instant, instantAt, later, Millis } from '../../../src/base/time.js';
import { Engine, type EngineOptions } from '../../../src/engine/engine.js';
import type { DialRequest, HostConnections } from '../../../src/engine/host/connections.js';
import { Packetizer } from '../../../src/netstack/packetizer.js';
import { Stack } from '../../../src/netstack/stack.js';
import type { TcpConnection } from '../../../src/netstack/tcp/connection.js';
import type { CloseReason, TcpHandlers } from '../../../src/netstack/types.js';
import { createCrypto } from '../../../src/os/crypto.js';
import { Arena } from '../../../src/wire/arena.js';

export const CLIENT = '10.83.0.1';
export const CLIENT6 = 'fd53:616c:6c79::1';

/** One connection as the host sees it. */
export class MockConnection {
  readonly received: Uint8Array[] = [];
  /** Destinations of its datagrams. */
  readonly to: string[] = [];
  ended = false;
  closed: string | undefined;
  paused = false;
  /** Bytes taken before `send` says "no more". */
  room = Number.POSITIVE_INFINITY;

  constructor(readonly request: DialRequest) {}

  get id(): number {
    return this.request.id;
  }

  get text(): string {
    return new TextDecoder().decode(Buffer.concat(this.received));
  }

  get bytes(): number {
    return this.received.reduce((sum, part) => sum + part.length, 0);
  }
}

/** One connection of the client's stack. */
export class MockClient implements TcpHandlers {
  connection!: TcpConnection;
  connected = false;
  closed: CloseReason | undefined;
  peerClosed = false;
  reads = true;
  readonly #parts: Uint8Array[] = [];

  onConnected(): void {
    this.connected = true;
  }
  onData(bytes: Uint8Array, offset: number, length: number): number {
    if (!this.reads) return 0;
    this.#parts.push(bytes.slice(offset, offset + length));
    return length;
  }
  onPeerClosed(): void {
    this.peerClosed = true;
  }
  onClosed(reason: CloseReason): void {
    this.closed = reason;
  }
  get data(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#parts));
  }
  /** Throws away what has come. */
  forget(): void {
    this.#parts.length = 0;
  }
}

type Overrides = Partial<
  Pick<EngineOptions, 'hooks' | 'preset' | 'settings' | 'dns' | 'rules' | 'log' | 'logLevel'>
> & {
  readonly dialers?: readonly string[];
};

export class MockHost {
  now: Instant = instantAt(1_000_000);
  readonly engine: Engine;
  readonly connections: MockConnection[] = [];
  /** Packets for the device, in order; those of the client's stack are not among them. */
  readonly packets: Uint8Array[] = [];
  readonly families: number[] = [];
  readonly logs: string[] = [];
  /** What a host does as soon as it is asked. */
  onDial: ((connection: MockConnection) => void) | undefined;
  onSend: ((connection: MockConnection, bytes: Uint8Array, to: SocketAddress | undefined) => void) | undefined;
  readonly #client: Stack;
  readonly #fromClient: Packetizer;
  readonly #toClient: Uint8Array[] = [];
  #timers: { at: number; callback: () => void }[] = [];

  constructor(overrides: Overrides = {}) {
    const { dialers = ['mock'], ...rest } = overrides;
    const crypto = createCrypto();
    this.engine = new Engine({
      device: {
        packets: (packets, families) => {
          packets.forEach((packet, i) => {
            this.families.push(families[i]!);
            if (this.#isClients(packet)) this.#toClient.push(packet.slice());
            else this.packets.push(packet.slice());
          });
        },
      },
      dialers: Object.fromEntries(dialers.map((name) => [name, this.#connections()])),
      platform: {
        now: () => this.now,
        schedule: (milliseconds, callback) => {
          const timer = { at: later(this.now, Millis(milliseconds)), callback };
          this.#timers.push(timer);
          return () => {
            this.#timers = this.#timers.filter((one) => one !== timer);
          };
        },
        entropy: new SeededEntropy(7),
        crypto,
      },
      log: (level, message) => this.logs.push(`${level} ${message}`),
      ...rest,
    });
    this.#fromClient = new Packetizer(new Arena(1 << 18), 512, (batch) => {
      const out: Uint8Array[] = [];
      for (let i = 0; i < batch.count; i++) {
        const at = batch.table[2 * i]!;
        out.push(batch.arena.bytes.subarray(at, at + batch.table[2 * i + 1]!));
      }
      this.engine.packets(out);
    });
    this.#client = new Stack({
      mtu: 1500,
      sink: this.#fromClient,
      handlers: {},
      entropy: new SeededEntropy(8),
      crypto,
      localV4: IpAddress.parse(CLIENT)!,
      localV6: IpAddress.parse(CLIENT6)!,
    });
    this.engine.start();
  }

  get last(): MockConnection {
    return this.connections.at(-1)!;
  }

  get values(): Readonly<Record<string, number>> {
    return this.engine.snapshot().values;
  }

  /** Timers the engine has asked for. */
  get scheduled(): number {
    return this.#timers.length;
  }

  /** Buffers of the client's stack: no part of the engine. */
  get clientBytes(): number {
    return this.#client.pool.lentBytes + this.#client.pool.store.bytes;
  }

  connect(to: string): MockClient {
    const client = new MockClient();
    client.connection = this.#client.connect(this.now, SocketAddress.parse(to)!, client);
    return client;
  }

  /** A connection that stands, and its two ends. */
  open(to: string): { client: MockClient; host: MockConnection } {
    const client = this.connect(to);
    this.run(Millis(10));
    const host = this.last;
    this.engine.connected(host.id);
    this.run(Millis(10));
    return { client, host };
  }

  reply(connection: MockConnection, data: Uint8Array | string, from?: string): void {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    this.engine.received(connection.id, bytes, from === undefined ? undefined : SocketAddress.parse(from)!);
  }

  /** Lets time pass, and everything that is due in it happen. */
  run(span: Duration): void {
    const end = later(this.now, span);
    for (;;) {
      this.#settle();
      const due = Math.min(...this.#timers.map(({ at }) => at), Number.POSITIVE_INFINITY);
      const next = earliest(instantAt(due), this.#client.pollTimeout());
      if (next === undefined || next > end) break;
      if (next > this.now) this.now = next;
    }
    this.now = end;
    this.#settle();
  }

  #settle(): void {
    for (let rounds = 0; rounds < 10_000; rounds++) {
      const due = this.#timers.find(({ at }) => at <= this.now);
      if (due !== undefined) {
        this.#timers = this.#timers.filter((one) => one !== due);
        due.callback();
      }
      if ((this.#client.pollTimeout() ?? Number.POSITIVE_INFINITY) <= this.now) this.#client.handleTimeout(this.now);
      for (const packet of this.#toClient.splice(0)) {
        const arena = new Arena(packet.length + 4);
        arena.bytes.set(packet);
        this.#client.handlePacket(this.now, arena, 0, packet.length);
      }
      this.#client.flush(this.now);
      this.#fromClient.flush();
      if (due === undefined && !this.#timers.some(({ at }) => at <= this.now) && this.#toClient.length === 0) return;
    }
    throw new Error('the engine does not come to rest');
  }

  /** The client's stack uses ports from 49152 on; what a test sends by hand uses lower ones. */
  #isClients(packet: Uint8Array): boolean {
    const isV4 = packet[0]! >>> 4 === 4;
    const protocol = isV4 ? packet[9] : packet[6];
    const at = isV4 ? 20 : 40;
    if (protocol === 6) return packet[at + 2]! >= 0xc0;
    if (protocol !== 1 && protocol !== 58) return false;
    // An error quotes the client's SYN.
    const quoted = at + 8 + (isV4 ? 20 : 40);
    const isError = isV4 ? packet[at] === 3 : packet[at] === 1;
    return isError && packet.length > quoted && packet[quoted]! >= 0xc0;
  }

  #connections(): HostConnections {
    const of = (id: number): MockConnection => this.connections.find((one) => one.id === id)!;
    return {
      dial: (request) => {
        const connection = new MockConnection(request);
        this.connections.push(connection);
        this.onDial?.(connection);
      },
      send: (id, bytes, to) => {
        const connection = of(id);
        connection.received.push(bytes.slice());
        if (to !== undefined) connection.to.push(to.toString());
        connection.room -= bytes.length;
        this.onSend?.(connection, bytes, to);
        return connection.room > 0;
      },
      end: (id) => {
        of(id).ended = true;
      },
      close: (id, reason) => {
        of(id).closed = reason;
      },
      pause: (id) => {
        of(id).paused = true;
      },
      resume: (id) => {
        of(id).paused = false;
      },
    };
  }
}
