/** Ways to move the values that want a client of raw segments, a dialer of another kind, a full device, slow turns, or name servers. */
import { SeededEntropy } from '../../src/base/entropy.js';
import { type Duration, later, Micros, Millis, Seconds } from '../../src/base/time.js';
import { EngineCore } from '../../src/engine/core.js';
import type { EngineDns } from '../../src/engine/host/traffic-options.js';
import { LAG_BOUNDS } from '../../src/engine/loop-lag.js';
import { engineSettings } from '../../src/engine/settings.js';
import { TunPackets } from '../../src/engine/tun-packets.js';
import { createCrypto } from '../../src/os/crypto.js';
import { EAGAIN, type EchoSocket, type TlsClient } from '../../src/os/io.js';
import { ECN_ECT0, markCongestion } from '../../src/wire/ecn.js';
import { echoRequest, ipPacket, PROTO, readPacket, udpPacket } from '../support/packets.js';
import { SimClock, SimReactor } from '../support/sim-reactor.js';
import { SimTun } from '../support/sim-tun.js';
import { a, query, read, reply } from './dns/world.js';
import { clientHello, cryptoFrame, hex, initialPacket, padded, records } from './names/hellos.js';
import { CLIENT, MockHost } from './replay/mock-host.js';

type Values = Readonly<Record<string, number>>;
/** Calls `seen` with the values before and after what moves one. */
export type MoveByHand = { readonly name: string; readonly move: (seen: (values: Values) => void) => void };

const ends = { from: CLIENT, to: '93.184.216.34' };
const [SYN, ACK, ECE, CWR] = [2, 16, 0x40, 0x80];
const PORT = 1234;

interface Segment {
  readonly seq: number;
  readonly ack?: number;
  readonly flags?: number;
  readonly window?: number;
  readonly options?: readonly number[];
  readonly data?: number;
  /** The network has marked it: congestion experienced. */
  readonly marked?: boolean;
}

function segment({
  seq,
  ack = 0,
  flags = ACK,
  window = 65_535,
  options = [],
  data = 0,
  marked = false,
}: Segment): Uint8Array {
  const body = new Uint8Array(20 + options.length + data);
  const view = new DataView(body.buffer);
  view.setUint16(0, PORT);
  view.setUint16(2, 80);
  view.setUint32(4, seq >>> 0);
  view.setUint32(8, ack >>> 0);
  body[12] = ((20 + options.length) / 4) << 4;
  body[13] = flags;
  view.setUint16(14, window);
  body.set(options, 20);
  const packet = ipPacket({ ...ends, protocol: PROTO.tcp, body });
  packet[1] = ECN_ECT0;
  // The checksum of an IPv4 header goes along: one's complement of what was added to the word.
  const header = new DataView(packet.buffer);
  header.setUint16(10, header.getUint16(10) - ECN_ECT0);
  if (marked) markCongestion(packet, 0);
  return packet;
}

const stamps = (value: number): number[] => [1, 1, 8, 10, 0, 0, value >> 8, value & 255, 0, 0, 0, 0];

/** A connection of a client made of segments: what it has sent ends at 1001, what it is sent begins at `base`. */
function rawOpen(
  options: readonly number[] = [],
  flags = SYN,
): { host: MockHost; base: number; say: (shape: Segment) => void } {
  const host = new MockHost();
  const say = (shape: Segment): void => {
    host.engine.packets([segment(shape)]);
    host.run(Millis(20));
  };
  say({ seq: 1000, flags, options });
  host.engine.connected(host.last.id);
  host.run(Millis(20));
  const base = (new DataView(readPacket(host.packets.at(-1)!).transport.buffer).getUint32(4) + 1) >>> 0;
  say({ seq: 1001, ack: base, options });
  return { host, base, say };
}

const raw = (
  name: string,
  by: (world: ReturnType<typeof rawOpen>) => void,
  options?: readonly number[],
  flags?: number,
): MoveByHand => ({
  name,
  move: (seen) => {
    const world = rawOpen(options, flags);
    seen(world.host.values);
    by(world);
    seen(world.host.values);
  },
});

/** An engine's core on a device and a dialer of its own kind. */
class CoreWorld {
  readonly clock = new SimClock();
  readonly reactor = new SimReactor(this.clock);
  readonly tun: SimTun & { takesNothing?: boolean };
  readonly core: EngineCore;
  deviceDrops = 0;
  readonly #packets: TunPackets;

  constructor(echoFlows = 10) {
    const tun = new SimTun(this.reactor);
    this.tun = tun;
    const write = tun.write.bind(tun);
    tun.write = (...args) => (this.tun.takesNothing === true ? -EAGAIN : write(...args));
    let packets: TunPackets | undefined;
    const crypto = createCrypto();
    const echo = { readiness: () => 0 };
    this.core = new EngineCore({
      reactor: this.reactor,
      dialers: [
        {
          name: 'own',
          tcp: () => () => {},
          udp: () => undefined,
          echo: (family): EchoSocket => ({
            fd: this.reactor.register(echo),
            family,
            send: () => 1,
            read: () => -EAGAIN,
            lastSequence: 0,
            lastSource: undefined as never,
            close: () => {},
          }),
        },
      ],
      sink: (drops) => {
        packets = new TunPackets(tun, drops);
        return packets;
      },
      settings: engineSettings('mobile', { flows: { echoFlows } }),
      hooks: {},
      entropy: new SeededEntropy(3),
      crypto,
      deviceDrops: () => this.deviceDrops,
    });
    this.#packets = packets!;
  }

  feed(...packets: readonly Uint8Array[]): void {
    for (const packet of packets) this.tun.send(packet);
    const now = this.reactor.now();
    this.#packets.read((arena, offset, length, size, checked) =>
      this.core.receive(now, arena, offset, length, size, checked),
    );
    this.core.turn(now);
    this.#packets.flush();
  }
}

const core = (name: string, by: (world: CoreWorld) => void, echoFlows?: number): MoveByHand => ({
  name,
  move: (seen) => {
    const world = new CoreWorld(echoFlows);
    seen(world.core.snapshot().values);
    by(world);
    seen(world.core.snapshot().values);
  },
});

/** What the kernel says of the device; test/os/device-drops.test.ts reads it. */
const DEVICE_QUEUE: MoveByHand = {
  name: 'backpressure_drops{where=device_queue}',
  move: (seen) => {
    const world = new CoreWorld();
    seen(world.core.snapshot().values);
    world.deviceDrops = 3;
    seen(world.core.snapshot().values);
  },
};

/** A hook that takes so long. */
const slow = (name: string, milliseconds: number): MoveByHand => ({
  name,
  move: (seen) => {
    const host: MockHost = new MockHost({
      hooks: {
        onFlow: () => {
          host.now = (host.now + milliseconds * 1000) as never;
          return undefined;
        },
      },
    });
    seen(host.values);
    host.engine.packets([udpPacket(ends, 1, 53, 'x')]);
    host.run(Seconds(1));
    seen(host.values);
  },
});

/** A host that calls back so much later than it was asked to. */
const late = (name: string, microseconds: number): MoveByHand => ({
  name,
  move: (seen) => {
    const host = new MockHost();
    host.run(Millis(1));
    seen(host.values);
    host.engine.packets([udpPacket(ends, 1, 53, 'x')]);
    host.now = (host.now + microseconds) as never;
    host.run(Seconds(1));
    seen(host.values);
  },
});

/** The same again and again. */
const lateOften = (name: string): MoveByHand => ({
  name,
  move: (seen) => {
    const host = new MockHost();
    seen(host.values);
    for (let n = 0; n < 200; n++) {
      host.engine.packets([udpPacket(ends, 1, 53, 'x')]);
      host.now = (host.now + 400) as never;
      host.run(Micros(1));
    }
    seen(host.values);
  },
});

interface DnsMove {
  readonly queries?: readonly Uint8Array[];
  /** What the name server says to a query; undefined: nothing. */
  readonly says?: (query: Uint8Array) => Uint8Array | undefined;
  readonly dns?: Partial<EngineDns>;
  /** How long after each query. */
  readonly between?: Duration;
}

/** What a well-behaved server says, or with other bits in its flags. */
const answered = (bytes: Uint8Array, flags = 0x180): Uint8Array => {
  const packet = read(bytes);
  const question = packet.questions![0]!;
  const asked = { via: 'udp', bytes, query: packet, question, name: question.name } as const;
  return reply(asked, { answers: [a(question.name, '10.1.1.1')], flags });
};
const ask = (name = 'a.example'): Uint8Array => udpPacket({ ...ends, to: '9.9.9.9' }, 5000, 53, query(name, 'A'));

const dns = (
  event: string,
  { queries = [ask()], says = () => undefined, dns: more = {}, between = Millis(1) }: DnsMove = {},
): MoveByHand => ({
  name: `dns{event=${event}}`,
  move: (seen) => {
    const host = new MockHost({ dns: { mode: 'hijack', servers: ['10.9.0.53'], ...more } });
    host.onDial = ({ id }) => host.engine.connected(id);
    host.onSend = (connection, bytes) => {
      const isStream = connection.request.protocol === 'tcp';
      const said = says((isStream ? bytes.slice(2) : bytes).slice());
      if (said === undefined) return;
      const framed = isStream ? Uint8Array.of(said.length >> 8, said.length & 255, ...said) : said;
      host.reply(connection, framed, isStream ? undefined : '10.9.0.53:53');
    };
    seen(host.values);
    for (const packet of queries) {
      host.engine.packets([packet]);
      host.run(between);
    }
    host.run(Seconds(30));
    seen(host.values);
  },
});

/** A TLS that says at once how it went. */
const pretendTls =
  (how: 'opened' | 'failed' | 'untrusted'): TlsClient =>
  (_open, _name, _protocols, handlers) => {
    if (how === 'opened') handlers.onOpen();
    else handlers.onClosed(how === 'untrusted' ? how : undefined);
    return { write: () => {}, close: () => {} };
  };

const DNS_MOVES: readonly MoveByHand[] = [
  ...['queries', 'server_queries', 'timeouts', 'failures'].map((event) => dns(event)),
  dns('answers', { says: answered }),
  dns('cache_hits', { says: answered, queries: [ask(), ask()] }),
  dns('stale_answers', {
    says: (() => {
      let isFirst = true;
      return (bytes: Uint8Array) => {
        const said = isFirst ? answered(bytes) : undefined;
        isFirst = false;
        return said;
      };
    })(),
    queries: [ask(), ask()],
    between: Seconds(70),
    dns: { staleSeconds: 3600 },
  }),
  dns('joined', { queries: [ask(), ask()] }),
  dns('truncated', { says: (bytes) => answered(bytes, 0x380) }),
  dns('spoofed', { says: (bytes) => answered(Uint8Array.of(bytes[0]! ^ 1, ...bytes.slice(1))) }),
  dns('case_mismatch', {
    says: (bytes) => answered(bytes.map((byte, i) => (i > 12 && byte === 0x41 ? 0x61 : byte))),
    queries: [ask('aaaaaaaaaaaaaaaa.example')],
  }),
  dns('malformed', { says: () => new Uint8Array(5), dns: { servers: ['tcp://10.9.0.53'] } }),
  dns('fallbacks', {
    says: (bytes) => answered(bytes),
    dns: { servers: ['tls://10.9.0.54#dns.example', '10.9.0.53'], tls: () => undefined },
  }),
  ...(['opened', 'failed', 'untrusted'] as const).map((how) =>
    dns(`tls_${how}`, { dns: { servers: ['tls://10.9.0.53#dns.example'], tls: pretendTls(how) } }),
  ),
  dns('overload', { queries: Array.from({ length: 600 }, (_, i) => ask(`n${i}.example`)) }),
  dns('bad_queries', { queries: [udpPacket({ ...ends, to: '9.9.9.9' }, 5000, 53, 'no query')] }),
  dns('fake_ip_answers', { dns: { mode: 'fake-ip' } }),
  dns('hook_answers', { dns: { resolver: (_host, answer) => answer({ addresses: ['10.1.1.1'] }) } }),
  dns('hook_errors', {
    dns: {
      resolver: () => {
        throw new Error('of the host');
      },
    },
  }),
];

/** One for each source of names and each action of rules. */
const LABELS: readonly MoveByHand[] = [
  ...(['allow', 'block', 'reject', 'delay', 'shape'] as const).map((action) => ({
    name: `rule_decisions{action=${action}}`,
    move: (seen: (values: Values) => void) => {
      const host = new MockHost({ rules: [action === 'delay' || action === 'shape' ? `${action} delay=1ms` : action] });
      seen(host.values);
      host.engine.packets([udpPacket(ends, 1, 443, 'x')]);
      host.run(Millis(20));
      seen(host.values);
    },
  })),
  {
    name: 'flow_names{source=tls}',
    move: (seen) => {
      const host = new MockHost();
      seen(host.values);
      const { client } = host.open('93.184.216.34:443');
      const hello = records(clientHello({ name: 'a.example' }));
      client.connection.write(hello, 0, hello.length);
      host.run(Millis(20));
      seen(host.values);
    },
  },
  {
    name: 'flow_names{source=quic}',
    move: (seen) => {
      const host = new MockHost();
      seen(host.values);
      const message = clientHello({ name: 'a.example' });
      const initial = initialPacket({
        id: hex('0102030405060708'),
        payload: padded(cryptoFrame(message, 0, message.length)),
      });
      host.engine.packets([udpPacket(ends, 1, 443, initial)]);
      host.run(Millis(20));
      seen(host.values);
    },
  },
];

/** Datagrams, one of them held back and the rest too many. */
const shaped = (name: string): MoveByHand => ({
  name,
  move: (seen) => {
    const host = new MockHost({ rules: ['shape rate=8kbit delay=1s'] });
    seen(host.values);
    host.engine.packets(Array.from({ length: 20 }, () => udpPacket(ends, 1, 443, new Uint8Array(1000))));
    host.run(Millis(20));
    seen(host.values);
  },
});

const LOSSY: MoveByHand = {
  name: 'shaped_losses',
  move: (seen) => {
    const host = new MockHost({ rules: ['shape loss=100%'] });
    seen(host.values);
    host.engine.packets([udpPacket(ends, 1, 443, 'x')]);
    host.run(Millis(20));
    seen(host.values);
  },
};

const ENDED_TCP: MoveByHand = {
  name: 'flows_closed{protocol=tcp}',
  move: (seen) => {
    const host = new MockHost();
    const { client } = host.open('93.184.216.34:443');
    seen(host.values);
    client.connection.abort();
    host.run(Millis(20));
    seen(host.values);
  },
};

const ENDED_UDP: MoveByHand = {
  name: 'flows_closed{protocol=udp}',
  move: (seen) => {
    const host = new MockHost();
    host.engine.packets([udpPacket(ends, 1, 443, 'x')]);
    host.run(Millis(20));
    seen(host.values);
    host.run(Seconds(120));
    seen(host.values);
  },
};

export const MOVES_BY_HAND: readonly MoveByHand[] = [
  raw('rto', ({ host }) => {
    host.reply(host.last, new Uint8Array(100));
    host.run(Seconds(5));
  }),
  raw('dup_acks', ({ host, base, say }) => {
    host.reply(host.last, new Uint8Array(5000));
    host.run(Millis(20));
    for (let i = 0; i < 3; i++) say({ seq: 1001, ack: base });
  }),
  raw('fast_retransmits', ({ host, base, say }) => {
    host.reply(host.last, new Uint8Array(5000));
    host.run(Millis(20));
    for (let i = 0; i < 3; i++) say({ seq: 1001, ack: base });
  }),
  raw('out_of_order', ({ base, say }) => say({ seq: 2001, ack: base, data: 10 })),
  raw('zero_window', ({ host, base, say }) => {
    host.last.room = 0;
    for (let i = 0; i < 60; i++) say({ seq: 1001 + 1400 * i, ack: base, data: 1400 });
  }),
  raw('challenge_acks', ({ say }) => say({ seq: 1001, flags: SYN })),
  raw(
    'paws_drops',
    ({ base, say }) => {
      say({ seq: 1001, ack: base, options: stamps(500), data: 10 });
      say({ seq: 1011, ack: base, options: stamps(100), data: 10 });
    },
    stamps(400),
  ),
  raw('ecn_marks_in', ({ say, base }) => say({ seq: 1001, ack: base, data: 10, marked: true }), [], SYN | ECE | CWR),
  raw(
    'ecn_marks_reported',
    ({ host, say, base }) => {
      host.reply(host.last, new Uint8Array(100));
      host.run(Millis(20));
      say({ seq: 1001, ack: base + 100, flags: ACK | ECE });
    },
    [],
    SYN | ECE | CWR,
  ),
  core('flows_active{protocol=echo}', (world) => world.feed(echoRequest(ends, 1, 1))),
  core('flows_opened{protocol=echo}', (world) => world.feed(echoRequest(ends, 1, 1))),
  core('echo_admission_fail', (world) => world.feed(echoRequest(ends, 1, 1), echoRequest(ends, 2, 1)), 1),
  core('idle_timeouts{protocol=echo}', (world) => {
    world.feed(echoRequest(ends, 1, 1));
    world.clock.now = later(world.clock.now, Seconds(60));
    world.feed();
  }),
  core('dial_errors{kind=unsupported}', (world) => world.feed(udpPacket(ends, 1, 443, 'x'))),
  core('backpressure_drops{where=device_out}', (world) => {
    world.tun.takesNothing = true;
    world.feed(udpPacket(ends, 1, 443, 'x'));
  }),
  DEVICE_QUEUE,
  slow('slow_turns{over=1}', 2),
  slow('slow_turns{over=5}', 6),
  slow('slow_turns{over=20}', 21),
  slow('longest_turn_microseconds', 2),
  ...LAG_BOUNDS.map((bound) => late(`late_turns{over=${bound / 1_000}}`, bound + 1)),
  late('loop_lag_microseconds{quantile=1}', 10),
  ...['0.5', '0.99'].map((share) => lateOften(`loop_lag_microseconds{quantile=${share}}`)),
  ...['flows_shaped', 'shaped_bytes', 'backpressure_drops{where=shaper}'].map(shaped),
  LOSSY,
  ENDED_TCP,
  ENDED_UDP,
  ...DNS_MOVES,
  ...LABELS,
];
