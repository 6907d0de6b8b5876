import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { CryptoStream } from '../../../src/engine/names/crypto-stream.js';
import { initialKeys, looksLikeInitial, QuicInitialReader } from '../../../src/engine/names/quic-initial.js';
import { createCrypto } from '../../../src/os/crypto.js';
import { clientHello, clientKeys, cryptoFrame, hex, initialPacket, join, padded, V1, V2 } from './hellos.js';

const crypto = createCrypto();
const id = hex('8394c8f03e515708');
const hello = clientHello({ name: 'quic.example', protocols: ['h3'], versions: [0x0304], keyShare: 1220 });

/** RFC 9001 appendix A.2 and RFC 9369 appendix A.2 use the same frames. */
const FRAMES = hex(`060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c0000041301130201
  0000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d00170018001000070005
  04616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748
  002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff
  05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff`);

const VECTORS = [
  {
    version: V1 as 1 | typeof V2,
    keys: {
      key: '1f369613dd76d5467730efcbe3b1a22d',
      iv: 'fa044b2f42a3fd3b46fb255c',
      hp: '9f50449e04a0e810283a1e9933adedd2',
    },
    start: `c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9bd8bab936b47d92ec356c
      0bab7df5976d27cd449f63300099f399`,
    end: 'e221af44860018ab0856972e194cd934',
  },
  {
    version: V2 as 1 | typeof V2,
    keys: {
      key: '8b1a0bc121284290a29e0971b5cd045d',
      iv: '91f73e2351d8fa91660e909f',
      hp: '45b95e15235d6f45a6b19cbcb0294ba9',
    },
    start: `d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485dd04de806071bf03dceebfa162e75d6c
      96058bdbfb127cdfcbf903388e99ad04`,
    end: '',
  },
];

function feed(...datagrams: readonly Uint8Array[]): QuicInitialReader {
  const reader = new QuicInitialReader(crypto);
  for (const datagram of datagrams) {
    const copy = datagram.slice();
    reader.feed(datagram, 0, datagram.length);
    expect(Buffer.compare(datagram, copy)).toBe(0);
  }
  return reader;
}

const whole = (from = 0, to = hello.length) => padded(cryptoFrame(hello, from, to));

describe('QuicInitialReader', () => {
  it.each(VECTORS)('opens the sample packet of the RFC, version $version', ({ version, keys, start, end }) => {
    const derived = initialKeys(crypto, version, id)!;
    expect(Buffer.from(derived.key).toString('hex')).toBe(keys.key);
    expect(Buffer.from(derived.iv).toString('hex')).toBe(keys.iv);
    expect(Buffer.from(derived.headerKey).toString('hex')).toBe(keys.hp);
    const packet = initialPacket({
      version,
      id,
      number: 2,
      payload: padded([...FRAMES], 1162),
      keys: { key: hex(keys.key), iv: hex(keys.iv), hp: hex(keys.hp) },
    });
    // What is built here is the RFC's packet: its first bytes, and the tag over all of it.
    expect(packet).toHaveLength(1200);
    expect(Buffer.from(packet).toString('hex').startsWith(start.replaceAll(/\s/g, ''))).toBe(true);
    expect(Buffer.from(packet).toString('hex').endsWith(end)).toBe(true);
    const reader = feed(packet);
    expect(reader.progress).toBe('hello');
    expect(reader.hello).toMatchObject({ serverName: 'example.com', protocols: ['alpn'], versions: [0x0304] });
    expect(reader.version).toBe(version);
  });

  it.each([V1, V2] as const)('takes packet numbers of any length, tokens, PING and ACK, version %i', (version) => {
    for (const numberLength of [1, 2, 3, 4] as const) {
      const frames = [1, 0, 0, 2, 5, 0, 1, 3, 0, 2, 3, 9, 0, 0, 1, 1, 2, 3, 0, ...cryptoFrame(hello, 0, hello.length)];
      const packet = initialPacket({
        version,
        id,
        number: 200,
        numberLength,
        token: new Uint8Array(70),
        payload: padded(frames),
      });
      expect(feed(packet).hello?.serverName).toBe('quic.example');
    }
  });

  it('puts shuffled, overlapping frames of several packets and coalesced datagrams together', () => {
    const piece = fc.tuple(fc.nat(hello.length - 1), fc.integer({ min: 1, max: 600 }));
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), fc.integer(), (extra, seed) => {
        const entropy = new SeededEntropy(seed);
        const pieces = extra.map(([from, length]) => [from, Math.min(hello.length, from + length)] as const);
        for (let at = 0; at < hello.length; at += 300) pieces.push([at, Math.min(hello.length, at + 300)]);
        for (let i = pieces.length - 1; i > 0; i--) {
          const j = entropy.uint32() % (i + 1);
          [pieces[i], pieces[j]] = [pieces[j]!, pieces[i]!];
        }
        const packets: Uint8Array[] = [];
        for (let i = 0; i < pieces.length; i += 4) {
          const frames = pieces.slice(i, i + 4).flatMap(([from, to]) => [0, ...cryptoFrame(hello, from, to), 1]);
          packets.push(initialPacket({ id, number: i, payload: padded(frames, 200) }));
        }
        const reader = feed(join(...packets.slice(0, 2)), ...packets.slice(2));
        expect(reader.hello?.serverName).toBe('quic.example');
        expect(reader.held).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('passes over 0-RTT packets that lie in front in a datagram', () => {
    const zeroRtt = initialPacket({ id, payload: padded([], 60) });
    zeroRtt[0] = (zeroRtt[0]! & 0xcf) | 0x10;
    // 0-RTT has no token: its field is the first byte of the length there.
    const noToken = join(zeroRtt.slice(0, 15), zeroRtt.slice(16));
    expect(feed(join(noToken, initialPacket({ id, payload: whole() }))).hello?.serverName).toBe('quic.example');
  });

  it('keeps the keys when the id changes, and finds the new ones after a Retry or another version', () => {
    const other = hex('0102030405060708090a');
    const half = 700;
    const first = initialPacket({ id, payload: whole(0, half) });
    const sameKeys = initialPacket({ id: other, keyId: id, number: 1, payload: whole(half) });
    expect(feed(first, sameKeys).hello?.serverName).toBe('quic.example');
    const retried = (from: number, to: number) =>
      initialPacket({ id: other, number: 2, token: new Uint8Array(40), payload: whole(from, to) });
    expect(feed(first, retried(0, half), retried(half, hello.length)).hello?.serverName).toBe('quic.example');
    // What came before the Retry does not count: the client sends everything again.
    expect(feed(first, retried(half, hello.length)).progress).toBe('more');
    const version2 = initialPacket({ version: V2, id: other, keyId: id, number: 3, payload: whole() });
    expect(feed(first, version2)).toMatchObject({ progress: 'hello', version: V2 });
    const unknown = join(Uint8Array.of(0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 0), new Uint8Array(1200));
    expect(feed(unknown, first, sameKeys).progress).toBe('hello');
  });

  it('gives up after ten packets, 64 datagrams, six keys, and beyond 16 KiB of stream', () => {
    const reader = new QuicInitialReader(crypto);
    const ping = initialPacket({ id, payload: padded([1], 100) });
    for (let i = 0; i < 10; i++) expect(reader.feed(ping, 0, ping.length)).toBe('more');
    expect(reader.feed(ping, 0, ping.length)).toBe('none');

    const quiet = feed(ping);
    const short = Uint8Array.of(0x40, 1, 2, 3);
    for (let i = 0; i < 62; i++) expect(quiet.feed(short, 0, 4)).toBe('more');
    expect(quiet.feed(short, 0, 4)).toBe('none');

    const noisy = countingReader();
    for (let i = 0; i < 9; i++) {
      const foreign = initialPacket({
        id: Uint8Array.of(i, 1, 2, 3, 4, 5, 6, 7),
        keyId: id,
        payload: padded([1], 100),
      });
      noisy.reader.feed(foreign, 0, foreign.length);
    }
    expect(noisy.derived()).toBe(6);

    const far = initialPacket({ id, payload: padded([6, ...[0x80, 0, 0x3f, 0xff], 2, 1, 1]) });
    expect(feed(far).progress).toBe('none');
    const last = initialPacket({ id, payload: padded([6, ...[0x80, 0, 0x3f, 0xff], 1, 1]) });
    expect(feed(last)).toMatchObject({ progress: 'more', held: 16_384 });
  });

  it('derives the keys of an id once and tries them once on a packet, those of the first id before those of this one', () => {
    const { reader, derived, tries } = countingReader();
    /** What is known after the packet, all keys derived so far, and how often it was tried. */
    const feedOne = (packet: Uint8Array) => {
      const before = tries();
      return [reader.feed(packet, 0, packet.length), derived(), tries() - before];
    };
    const broken = initialPacket({ id, payload: whole(0, 700) });
    broken[broken.length - 1]! ^= 1;
    expect(feedOne(broken)).toEqual(['more', 1, 1]);
    expect(feedOne(broken)).toEqual(['more', 1, 1]);
    expect(feedOne(initialPacket({ id, payload: whole(0, 700) }))).toEqual(['more', 1, 1]);
    expect(feedOne(broken)).toEqual(['more', 1, 1]);
    const other = hex('0102030405060708090a');
    const foreign = initialPacket({ id: other, keyId: hex('09'), number: 1, payload: whole(700) });
    expect(feedOne(foreign)).toEqual(['more', 2, 2]);
    expect(feedOne(foreign)).toEqual(['more', 2, 2]);
    const version2 = initialPacket({ version: V2, id: other, keyId: id, number: 2, payload: whole() });
    expect(feedOne(version2)).toEqual(['hello', 3, 1]);
  });

  it('takes connection ids of up to 20 bytes', () => {
    const of = (length: number) => initialPacket({ id: new Uint8Array(length).fill(7), payload: whole() });
    expect([0, 8, 20, 21].map((length) => feed(of(length)).progress)).toEqual(['hello', 'hello', 'hello', 'none']);
  });

  it('gives up at once when the first datagram holds nothing of QUIC, and reads no further than it goes', () => {
    expect(feed(Uint8Array.of(0x40, 1, 2, 3)).progress).toBe('none');
    const unknown = Uint8Array.of(0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 0, 0);
    expect(feed(unknown).progress).toBe('more');
    const reader = new QuicInitialReader(crypto);
    expect(reader.feed(unknown, 0, 6)).toBe('none');
  });

  it('opens no packet of one version with the keys of another', () => {
    const keys = clientKeys(V1, id);
    const second = (version: typeof V1 | typeof V2) =>
      initialPacket({ version, id, number: 1, payload: whole(700), keys });
    const first = initialPacket({ id, payload: whole(0, 700) });
    expect(feed(first, second(V1)).progress).toBe('hello');
    expect(feed(first, second(V2))).toMatchObject({ progress: 'more', version: V1 });
  });

  it('takes nothing of a CRYPTO frame that is cut off, nor of what follows a frame that an Initial may not hold', () => {
    const cut = initialPacket({ id, payload: Uint8Array.from(cryptoFrame(hello, 0, hello.length).slice(0, -1)) });
    expect(feed(cut)).toMatchObject({ progress: 'more', held: 0 });
    // A connection that closes, a HANDSHAKE_DONE, a STREAM frame.
    for (const type of [0x1c, 0x1e, 0x08]) {
      const after = initialPacket({ id, payload: padded([type, ...cryptoFrame(hello, 0, hello.length)]) });
      expect(feed(after)).toMatchObject({ progress: 'more', held: 0 });
    }
  });

  it('looks like an Initial by its version’s type, and by nothing shorter than such a header', () => {
    const looks = (...bytes: number[]) => looksLikeInitial(Uint8Array.from([0, ...bytes, 0, 0]), 1, bytes.length);
    const v2 = [0x6b, 0x33, 0x43, 0xcf];
    expect(looks(0xc0, 0, 0, 0, 1, 0, 0)).toBe(true);
    expect(looks(0xd0, ...v2, 0, 0)).toBe(true);
    // 0-RTT of version 1 has the type of version 2's Initial; Retry of version 2 that of version 1's.
    expect(looks(0xd0, 0, 0, 0, 1, 0, 0)).toBe(false);
    expect(looks(0xc0, ...v2, 0, 0)).toBe(false);
    expect(looks(0xc0, 0, 0, 0, 1, 0)).toBe(false);
    expect(looks(0xc0, 0, 0, 0, 2, 0, 0)).toBe(false);
  });

  it('never throws on noise, cut or changed packets, and says nothing about them', () => {
    const good = initialPacket({ id, payload: whole() });
    fc.assert(
      fc.property(
        fc.nat(good.length - 1),
        fc.integer({ min: 1, max: 255 }),
        fc.uint8Array({ maxLength: 80 }),
        (at, flip, noise) => {
          const changed = good.slice();
          changed[at]! ^= flip;
          const reader = feed(changed, noise, changed.slice(0, at));
          // Only the bits of a long header that nobody authenticates before the version may change unnoticed: there are none.
          expect(reader.hello).toBeUndefined();
          feed(noise, good.slice(0, at));
          const frames = initialPacket({ id, payload: padded([...noise], noise.length + 20) });
          feed(frames, frames);
        },
      ),
      { numRuns: 120 },
    );
    expect(looksLikeInitial(good, 0, good.length)).toBe(true);
    expect(looksLikeInitial(Uint8Array.of(0x40, 0, 0, 0, 1, 0, 0, 0), 0, 8)).toBe(false);
  });
});

describe('CryptoStream', () => {
  it('holds the first bytes that came for every place, and knows how much of the beginning is whole', () => {
    const piece = fc.record({ at: fc.nat(200), length: fc.nat(60), fill: fc.integer({ min: 1, max: 255 }) });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
        const stream = new CryptoStream();
        const model = new Uint8Array(300);
        for (const { at, length, fill } of pieces) {
          expect(stream.insert(at, new Uint8Array(70).fill(fill), 5, length)).toBe(true);
          for (let i = at; i < at + length; i++) if (model[i] === 0) model[i] = fill;
          const prefix = model.indexOf(0);
          expect(stream.prefix).toBe(prefix);
          expect(stream.bytes.slice(0, prefix)).toEqual(model.slice(0, prefix));
        }
      }),
    );
  });

  it('keeps 64 stretches apart, not more', () => {
    const stream = new CryptoStream();
    for (let i = 0; i < 64; i++) expect(stream.insert(2 * i, Uint8Array.of(1), 0, 1)).toBe(true);
    expect(stream.insert(1000, Uint8Array.of(1), 0, 1)).toBe(false);
  });
});

/** A reader, and how many keys it has derived and tried. */
function countingReader() {
  let derived = 0;
  let tries = 0;
  const reader = new QuicInitialReader({
    ...wrap(),
    aes128GcmOpen: (...args) => {
      tries++;
      return crypto.aes128GcmOpen(...args);
    },
    hkdfExtractSha256: (a: Uint8Array, b: Uint8Array) => {
      derived++;
      return crypto.hkdfExtractSha256(a, b);
    },
  });
  return { reader, derived: () => derived, tries: () => tries };
}

/** The crypto object with its methods bound, for one to be replaced. */
function wrap() {
  return {
    sha256: crypto.sha256.bind(crypto),
    hmacSha256: crypto.hmacSha256.bind(crypto),
    hkdfExtractSha256: crypto.hkdfExtractSha256.bind(crypto),
    hkdfExpandSha256: crypto.hkdfExpandSha256.bind(crypto),
    aes128EcbBlock: crypto.aes128EcbBlock.bind(crypto),
    aes128GcmOpen: crypto.aes128GcmOpen.bind(crypto),
    ed25519Sign: crypto.ed25519Sign.bind(crypto),
    ed25519Verify: crypto.ed25519Verify.bind(crypto),
    spkiVerify: crypto.spkiVerify.bind(crypto),
    equal: crypto.equal.bind(crypto),
  };
}
