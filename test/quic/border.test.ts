/**
 * The border to the native crate under wrong use: a panic there ends the process, so that a failing test here is a worker that
 * died. And the parsers on this side of it, with bytes that a peer made up.
 */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { instantAt, Seconds } from '../../src/base/time.js';
import { certificateExpiry, expiryAs } from '../../src/quic/certificate.js';
import { CloseCode } from '../../src/quic/close.js';
import { ControlStream } from '../../src/quic/control-stream.js';
import { EVENT_WORDS, makeNative, type NativeEndpoint, RUN_WORDS, type SharedMemory } from '../../src/quic/native.js';
import { CONTROL_HEADER, MAX_CONTROL_MESSAGE, toNative } from '../../src/quic/options.js';
import { type StreamHost, StreamState } from '../../src/quic/stream.js';
import { type Certificates, certificates, makeNet, WALL } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

const MEMORY = 4096;
const word = fc.oneof(
  fc.constantFrom(0, 1, 7, 1200, MEMORY - 1, MEMORY, MEMORY + 1, 0xffff, 0x7fff_ffff, 0xffff_ffff),
  fc.nat(MEMORY),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
const real = fc.oneof(
  fc.constantFrom(0, -0, -1, 0.5, 2 ** 32, 2 ** 62, 2 ** 64, 1e300, -1e300, Number.NaN, Number.POSITIVE_INFINITY),
  fc.double(),
  fc.nat(100).map((n) => n * 1e6),
);
const id = fc.oneof(fc.nat(3), word);
const stream = fc.oneof(fc.nat(8), real);

function shared(transmitBytes = MEMORY): SharedMemory {
  return {
    runs: new Uint32Array(RUN_WORDS * 8),
    out: new Uint32Array(10),
    tx: new Uint8Array(transmitBytes),
    events: new Float64Array(EVENT_WORDS * 8),
    inbound: new Uint8Array(80_000),
    inboundTable: new Uint32Array(16),
    outboundTable: new Uint32Array(16),
    results: new Uint32Array(4),
    figures: new Float64Array(32),
    state: new Float64Array(4),
    scratch: new Uint8Array(MEMORY),
  };
}

type Call = (native: NativeEndpoint, memory: SharedMemory) => void;

/** The call, or the error that a wrong argument is answered with. */
const tolerant = (call: Call): Call => {
  return (native, memory) => {
    try {
      call(native, memory);
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
    }
  };
};
const fill = (table: Uint32Array, values: readonly number[]): void => {
  for (let i = 0; i < table.length; i++) table[i] = values[i % values.length]!;
};
const words = fc.array(word, { minLength: 1, maxLength: 20 });
const call: fc.Arbitrary<Call> = fc
  .oneof(
    fc.tuple(real, id, words).map(
      ([now, count, table]): Call =>
        (native, memory) => {
          fill(memory.runs, table);
          native.receive(now, count);
        },
    ),
    fc.tuple(real, words).map(
      ([now, table]): Call =>
        (native, memory) => {
          fill(memory.out, table);
          native.connect(now, 'server.test');
        },
    ),
    fc.tuple(real, fc.string()).map(
      ([now, name]): Call =>
        (native) =>
          void native.connect(now, name),
    ),
    fc.tuple(real, word, word).map(
      ([now, offset, max]): Call =>
        (native) =>
          void native.transmit(now, offset, max),
    ),
    fc.tuple(id, word, id, words).map(
      ([connection, memory, count, table]): Call =>
        (native, own) => {
          fill(own.outboundTable, table);
          native.writeDatagrams(connection, memory % 3, count, count % 2 === 1);
        },
    ),
    real.map(
      (now): Call =>
        (native) =>
          native.expire(now),
    ),
    real.map(
      (millis): Call =>
        (native) =>
          native.setWallTime(millis),
    ),
    fc.tuple(id, fc.boolean()).map(
      ([connection, uni]): Call =>
        (native) =>
          void native.openStream(connection, uni),
    ),
    fc.tuple(id, stream, word).map(
      ([connection, number, length]): Call =>
        (native) => {
          native.readStream(connection, number, length);
          native.writeStream(connection, number, length);
        },
    ),
    fc.tuple(id, stream, word).map(
      ([connection, number, code]): Call =>
        (native) => {
          native.finishStream(connection, number);
          native.resetStream(connection, number, code);
          native.stopStream(connection, number, code);
        },
    ),
    fc.tuple(real, id, word, fc.string()).map(
      ([now, connection, code, text]): Call =>
        (native) => {
          native.close(now, connection, code, text);
        },
    ),
    fc.tuple(real, id).map(
      ([now, connection]): Call =>
        (native) => {
          native.events();
          native.readDatagrams(connection);
          native.closeText(connection);
          native.ping(connection);
          native.forceKeyUpdate(connection);
          native.localAddressChanged(connection);
          native.peerCertificates(connection);
          native.remote(connection);
          native.silentFor(now, connection);
          native.stats(connection);
          native.counters();
        },
    ),
  )
  .map(tolerant);

describe('the native endpoint', () => {
  it('survives any numbers in any order', () => {
    const options = toNative({
      alpn: 'x',
      ca: certs.ca.pem,
      identity: certs.server,
      wallTime: WALL,
      client: true,
      server: { accept: () => undefined, migration: true },
      virtualPrefixBytes: 9,
    });
    const entropy = new SeededEntropy(3);
    fc.assert(
      fc.property(
        fc.array(call, { minLength: 1, maxLength: 60 }),
        fc.constantFrom(MEMORY, 128 * 1024),
        (calls, room) => {
          const memory = shared(room);
          const native = makeNative(options, memory);
          const packets = new Uint8Array(MEMORY);
          entropy.fill(packets);
          native.attach(packets);
          native.attach(memory.scratch);
          for (const one of calls) one(native, memory);
          native.counters();
        },
      ),
      { numRuns: 300 },
    );
  });

  it('refuses tables that are too small', () => {
    const options = toNative({ alpn: 'x', ca: certs.ca.pem, identity: undefined, wallTime: WALL, client: true });
    for (const [name, size] of [
      ['out', 9],
      ['results', 3],
      ['figures', 31],
      ['state', 3],
      ['inboundTable', 1],
      ['inbound', 65_535],
    ] as const) {
      const memory = shared();
      const small = { ...memory, [name]: memory[name].slice(0, size) };
      expect(() => makeNative(options, small), name).toThrow(expect.objectContaining({ code: 'QUIC_OPTIONS' }));
    }
  });
});

describe('packets changed on their way', () => {
  it('cost nothing but themselves: messages arrive unchanged or the connection ends', () => {
    let arrived = 0;
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 30 }), fc.integer({ min: 1, max: 1 << 30 }), (oneIn, seed) => {
        const entropy = new SeededEntropy(seed);
        const net = makeNet(certs, { server: { messagesPerSecond: 1000 } });
        net.tap = (bytes) => {
          if (entropy.uint32() % oneIn === 0) bytes[entropy.uint32() % bytes.length]! ^= 1 << (entropy.uint32() % 8);
        };
        const { connection } = net.connect();
        net.run(Seconds(1));
        const sent = Array.from({ length: 20 }, (_, i) => new Uint8Array(500).fill(i));
        if (connection.state === 'open') {
          const control = connection.openControl();
          for (const message of sent) control.send(message);
        }
        net.run(Seconds(2));
        const messages = net.accepted[0]?.messages ?? [];
        arrived += messages.length;
        expect(messages).toEqual(sent.slice(0, messages.length));
      }),
      { numRuns: 25 },
    );
    expect(arrived).toBeGreaterThan(100);
  });
});

/** A stream whose bytes come in the given pieces. */
class PiecewiseHost implements StreamHost {
  readonly scratch = new Uint8Array(70_000);
  readonly readState = StreamState.open;
  readonly #pieces: readonly Uint8Array[];
  #next = 0;
  constructor(pieces: readonly Uint8Array[]) {
    this.#pieces = pieces;
  }
  readStream(): number {
    const piece = this.#pieces[this.#next++] ?? new Uint8Array(0);
    this.scratch.set(piece);
    return piece.length;
  }
  writeStream = (_connection: number, _stream: number, length: number): number => length;
  finishStream(): void {}
  stopStream(): void {}
}

/** What any reader has to make of these bytes: the messages before the first wrong length. */
function reference(bytes: Uint8Array): { messages: Uint8Array[]; isWrong: boolean } {
  const messages: Uint8Array[] = [];
  let at = 0;
  while (bytes.length - at >= CONTROL_HEADER) {
    const length = new DataView(bytes.buffer, bytes.byteOffset + at).getUint32(0);
    if (length === 0 || length > MAX_CONTROL_MESSAGE) return { messages, isWrong: true };
    if (bytes.length - at - CONTROL_HEADER < length) break;
    messages.push(bytes.slice(at + CONTROL_HEADER, at + CONTROL_HEADER + length));
    at += CONTROL_HEADER + length;
  }
  return { messages, isWrong: false };
}

describe('control stream frames', () => {
  const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
  const frame = (body: Uint8Array): Uint8Array => {
    const bytes = new Uint8Array(CONTROL_HEADER + body.length);
    new DataView(bytes.buffer).setUint32(0, body.length);
    bytes.set(body, CONTROL_HEADER);
    return bytes;
  };
  const piece = fc.oneof(
    { weight: 4, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 300 }).map(frame) },
    { weight: 1, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 12 }) },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom(MAX_CONTROL_MESSAGE, MAX_CONTROL_MESSAGE - 1)
        .map((n) => frame(new Uint8Array(n).fill(7))),
    },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom([0, 1, 0, 1], [0, 0, 0, 0], [255, 255, 255, 255], [0, 1, 0, 0])
        .map((b) => Uint8Array.from(b)),
    },
  );

  it('made up by a peer are read as their lengths say, however they are cut, up to the first wrong one', () => {
    fc.assert(
      fc.property(
        fc.array(piece, { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1, maxLength: 10 }),
        (pieces, cuts) => {
          const bytes = new Uint8Array(Buffer.concat(pieces));
          const parts: Uint8Array[] = [];
          for (let at = 0, i = 0; at < bytes.length; at += parts.at(-1)!.length) {
            parts.push(bytes.subarray(at, at + cuts[i++ % cuts.length]!));
          }
          const got: Uint8Array[] = [];
          const control = new ControlStream(
            1,
            0,
            new PiecewiseHost(parts),
            1_000_000,
            (_now, body) => got.push(body) > 0,
          );
          const problem = control.readable(instantAt(1));
          const { messages, isWrong } = reference(bytes);
          expect(got.map(digest)).toEqual(messages.map(digest));
          expect(problem?.code).toBe(isWrong ? CloseCode.framing : undefined);
        },
      ),
      { numRuns: 250 },
    );
  });
});

describe('certificates with changed bytes', () => {
  it('say when they end and what they are for, or CERTIFICATE_MALFORMED', () => {
    const good = Buffer.from(certs.client.certificate.split('-----')[2]!, 'base64');
    expect(certificateExpiry(good)).toBeGreaterThan(WALL);
    expect([expiryAs('client', good), expiryAs('server', good)]).toEqual([certificateExpiry(good), undefined]);
    const attempt = (der: Uint8Array): void => {
      try {
        expect(certificateExpiry(der)).toBeTypeOf('number');
        expiryAs('server', der);
      } catch (error) {
        expect(error).toMatchObject({ code: 'CERTIFICATE_MALFORMED' });
      }
    };
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), fc.nat(20), (at, bits, cut) => {
        const der = Uint8Array.from(good.subarray(0, good.length - (cut < 18 ? 0 : cut)));
        if (at < der.length) der[at]! ^= bits;
        attempt(der);
      }),
      { numRuns: 500 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), attempt), { numRuns: 200 });
  });
});
