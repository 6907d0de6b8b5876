import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ClientHelloReader, HELLO_MAX, parseClientHello } from '../../../src/engine/names/client-hello.js';
import { hostName, isUnder } from '../../../src/engine/names/host-name.js';
import { clientHello, extension, type HelloShape, join, records, serverName } from './hellos.js';

const parse = (message: Uint8Array) => parseClientHello(message, 0, message.length);

describe('hostName', () => {
  it('folds case and the final dot, and refuses what is no name', () => {
    expect(hostName('WWW.Example.COM.')).toBe('www.example.com');
    expect(hostName('_dns.xn--bcher-kva.example')).toBe('_dns.xn--bcher-kva.example');
    const long = `${'a'.repeat(63)}.`.repeat(3);
    expect(hostName(`${long}${'b'.repeat(61)}`)).toHaveLength(253);
    const bad = [
      `${long}${'b'.repeat(62)}`,
      `${'a'.repeat(64)}.example`,
      '',
      '.',
      'a..b',
      '-a.b',
      'a-.b',
      'bücher.example',
      'a b',
    ];
    for (const text of [...bad, '192.0.2.1', '2001:db8::1', '*.example']) expect(hostName(text)).toBeUndefined();
  });

  it('compares at label boundaries', () => {
    expect(isUnder('a.example.com', 'example.com')).toBe(true);
    expect(isUnder('example.com', 'example.com')).toBe(true);
    expect(isUnder('badexample.com', 'example.com')).toBe(false);
    expect(isUnder('com', 'example.com')).toBe(false);
  });
});

describe('parseClientHello', () => {
  it('reads name, protocols, versions and whether another hello is inside', () => {
    const shape = { name: 'Example.COM', protocols: ['h2', 'http/1.1'], versions: [0x0304, 0x0303] };
    expect(parse(clientHello(shape))).toEqual({
      serverName: 'example.com',
      protocols: ['h2', 'http/1.1'],
      versions: [0x0304, 0x0303],
      encrypted: false,
    });
    expect(parse(clientHello({ name: 'outer.example', encrypted: true }))).toMatchObject({
      serverName: 'outer.example',
      encrypted: true,
      versions: [0x0303],
    });
    expect(parse(clientHello({}))).toMatchObject({ serverName: undefined, protocols: [] });
  });

  it('gives no name for an address, a final dot, other characters, two names or none', () => {
    for (const name of ['192.0.2.1', 'a.example.', 'a b.example', 'caf\xe9.example', 'a\0.example', '']) {
      expect(parse(clientHello({ name }))).toMatchObject({ serverName: undefined });
    }
    const two = extension(0, [0, 8, 0, 0, 1, 0x61, 0, 0, 1, 0x62]);
    expect(parse(clientHello({ extra: two }))).toMatchObject({ serverName: undefined });
  });

  it('refuses an extension twice, lengths that disagree and bytes behind the end', () => {
    const message = clientHello({ name: 'a.example', protocols: ['h3'] });
    expect(parse(clientHello({ name: 'a.example', extra: serverName('b.example') }))).toBeUndefined();
    expect(parse(join(message, Uint8Array.of(0)))).toBeUndefined();
    for (let cut = 0; cut < message.length; cut++) expect(parse(message.slice(0, cut))).toBeUndefined();
    const longer = message.slice();
    longer[3]!++;
    expect(parse(join(longer, Uint8Array.of(0)))).toBeUndefined();
    expect(parse(clientHello({ extra: extension(16, [0, 9, 2, 0x68]) }))).toBeUndefined();
  });

  it('never throws, and never reads outside its bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(20), (noise, at) => {
        const message = clientHello({ name: 'a.example', protocols: ['h2'], versions: [0x0304] });
        message.set(noise.subarray(0, message.length - at), at);
        parse(message);
        parse(noise);
      }),
    );
  });
});

describe('ClientHelloReader', () => {
  const shapes: HelloShape[] = [
    { name: 'a.example', protocols: ['h2'] },
    { name: 'pq.example', versions: [0x0304], keyShare: 1220 },
    { name: 'large.example', keyShare: 40_000 },
  ];

  it.each(shapes)('finds $name over any cut into records and segments', (shape) => {
    const message = clientHello(shape);
    const cuts = fc.tuple(
      fc.integer({ min: 40, max: 16_384 }),
      fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 40 }),
    );
    fc.assert(
      fc.property(cuts, ([size, segments]) => {
        const stream = join(records(message, size), Uint8Array.of(23, 3, 3, 0, 1, 0));
        const reader = new ClientHelloReader();
        let at = 0;
        for (const length of [...segments, stream.length]) {
          const n = Math.min(length, stream.length - at);
          reader.feed(stream, at, n);
          at += n;
        }
        expect(reader.progress).toBe('hello');
        expect(reader.hello).toEqual(parse(message));
        expect(reader.held).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('knows what is no TLS by the first bytes, and keeps none of it', () => {
    const starts = [
      'GET / HTTP/1.1\r\n',
      '\x16\x02',
      '\x16\x03\x01\x00\x00',
      '\x16\x03\x01\x40\x01',
      '\x16\x03\x01\x00\x05\x02',
      '\x15\x03\x01',
    ];
    for (const start of starts) {
      const reader = new ClientHelloReader();
      const bytes = Uint8Array.from(Buffer.from(start, 'latin1'));
      expect(reader.feed(bytes, 0, bytes.length)).toBe('none');
      expect(reader.held).toBe(0);
    }
    // An alert in the middle of a hello.
    const reader = new ClientHelloReader();
    const message = clientHello({ name: 'a.example' });
    const stream = join(records(message.slice(0, 50)), Uint8Array.of(21, 3, 3, 0, 2, 1, 0));
    expect(reader.feed(stream, 0, stream.length)).toBe('none');
  });

  it('gives up at 64 KiB and at 1024 records', () => {
    const reader = new ClientHelloReader();
    const large = Uint8Array.from([1, 0, 255, 255, ...new Array<number>(HELLO_MAX + 100).fill(0)]);
    const stream = records(large);
    for (let at = 0; at < stream.length && reader.progress === 'more'; at += 1000) {
      reader.feed(stream, at, Math.min(1000, stream.length - at));
      expect(reader.held).toBeLessThanOrEqual(HELLO_MAX);
    }
    expect(reader.progress).toBe('none');
    const tiny = new ClientHelloReader();
    const bytes = records(clientHello({ name: 'a.example', keyShare: 1500 }), 1);
    tiny.feed(bytes, 0, bytes.length);
    expect(tiny.progress).toBe('none');
  });
});
