import { decode, encode } from 'dns-packet';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DNS_HEADER,
  EDNS_SIZE,
  readMessage,
  readName,
  TYPE,
  withoutOpt,
  writeAnswer,
  writeName,
  writeQuery,
} from '../../../src/engine/dns/message.js';
import { a, query } from './world.js';

const label = fc.stringMatching(/^[a-z0-9_]([a-z0-9-]{0,20}[a-z0-9])?$/);
const name = fc.array(label, { minLength: 1, maxLength: 8 }).map((labels) => labels.join('.'));

describe('DNS messages', () => {
  it('are read as dns-packet writes them, compressed names and all', () => {
    fc.assert(
      fc.property(name, fc.array(name, { maxLength: 6 }), fc.nat(0xffff), (asked, names, id) => {
        const bytes = Uint8Array.from(
          encode({
            type: 'response',
            id,
            flags: 0x180,
            questions: [{ name: asked, type: 'A', class: 'IN' }],
            answers: names.map((n, i) => ({ ...a(n, `10.0.0.${i}`, i + 1) })),
            additionals: [{ type: 'TXT', name: asked, ttl: 5, data: 'text' }],
          }),
        );
        const message = readMessage(bytes)!;
        expect(message.id).toBe(id);
        expect(message.question).toEqual({ name: asked, type: 1, class: 1 });
        expect(message.records.map((r) => [r.section, r.name, r.type, r.ttl, r.dataLength])).toEqual([
          ...names.map((n, i) => ['answer', n, 1, i + 1, 4]),
          ['additional', asked, 16, 5, 5],
        ]);
      }),
    );
  });

  it('names are one text per name: lower case, other bytes as numbers; compression may only lead back', () => {
    const wire = (...bytes: number[]) => Uint8Array.from([...new Array<number>(DNS_HEADER).fill(0), ...bytes]);
    const dotted = wire(3, 0x41, 0x2e, 0xe4, 0);
    expect(readName(dotted, DNS_HEADER)).toEqual({ text: 'a\\046\\228', next: DNS_HEADER + 5 });
    expect(writeName('a\\046\\228')).toEqual(Uint8Array.of(3, 0x61, 0x2e, 0xe4, 0));
    expect(readName(wire(0), DNS_HEADER)).toEqual({ text: '', next: DNS_HEADER + 1 });
    // To itself, forward, into the header, two that point at each other, and a reserved kind of label.
    const bad = [
      [0xc0, DNS_HEADER],
      [0xc0, 14, 0],
      [0xc0, 0],
      [1, 0x61, 0xc0, DNS_HEADER],
      [0x40, 0],
      [0x80, 0],
      [5, 0x61],
    ];
    for (const bytes of bad) expect(readName(wire(...bytes), DNS_HEADER)).toBeUndefined();
    const long = [...new Array(4)].flatMap(() => [63, ...new Array<number>(63).fill(0x61)]);
    expect(readName(wire(...long, 0), DNS_HEADER)).toBeUndefined();
    const fits = [...long.slice(0, 192), 61, ...new Array<number>(61).fill(0x62), 0];
    expect(readName(wire(...fits), DNS_HEADER)?.text).toHaveLength(253);
    expect(writeName(`${'a'.repeat(63)}.`.repeat(3) + 'b'.repeat(61))).toHaveLength(255);
    expect(writeName(`${'a'.repeat(63)}.`.repeat(3) + 'b'.repeat(62))).toBeUndefined();
    for (const text of ['a..b', 'x'.repeat(64), 'ż', '\\999']) expect(writeName(text)).toBeUndefined();
  });

  it('writes queries and answers that dns-packet reads', () => {
    const bytes = writeQuery({
      id: 77,
      name: writeName('www.example')!,
      type: TYPE.AAAA,
      checkingDisabled: true,
      dnssec: true,
    });
    const packet = decode(Buffer.from(bytes));
    expect(packet).toMatchObject({ id: 77, type: 'query', flag_rd: true, flag_cd: true });
    expect(packet.questions).toEqual([{ name: 'www.example', type: 'AAAA', class: 'IN' }]);
    expect(packet.additionals).toMatchObject([{ type: 'OPT', udpPayloadSize: EDNS_SIZE, flag_do: true }]);
    expect(
      writeQuery({ id: 1, name: writeName('x')!, type: 1, checkingDisabled: false, dnssec: undefined }),
    ).toHaveLength(19);
    const asked = query('www.example', 'A', { size: 1232 });
    const answer = writeAnswer(asked, readMessage(asked)!.questionEnd, 0, [
      { type: TYPE.A, ttl: 9, data: Uint8Array.of(10, 1, 2, 3) },
    ]);
    expect(decode(Buffer.from(answer)).answers).toMatchObject([
      { name: 'www.example', type: 'A', ttl: 9, data: '10.1.2.3' },
    ]);
  });

  it('takes the OPT record off, and everything behind it', () => {
    const plain = query('www.example', 'A');
    const edns = query('www.example', 'A', { size: 900, dnssec: true });
    const message = readMessage(edns)!;
    expect(message.edns).toMatchObject({ size: 900, dnssec: true });
    expect(withoutOpt(edns, message)).toEqual(plain);
    const trailing = Uint8Array.from([...edns, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    trailing[11] = 2;
    expect(withoutOpt(trailing, readMessage(trailing)!)).toEqual(plain);
    expect(withoutOpt(plain, readMessage(plain)!)).toEqual(plain);
  });

  it('refuses what disagrees with its length, two questions, two OPTs and a thousand records; never throws', () => {
    const good = query('www.example', 'A', { size: 1232 });
    for (let cut = 0; cut < good.length; cut++) expect(readMessage(good.slice(0, cut))).toBeUndefined();
    const questions = good.slice();
    questions[5] = 2;
    expect(readMessage(questions)).toBeUndefined();
    const opts = Uint8Array.from([...good, ...good.slice(-11)]);
    opts[11] = 2;
    expect(readMessage(opts)).toBeUndefined();
    const many = Uint8Array.from([...new Array<number>(12).fill(0), ...new Array<number>(11 * 1025).fill(0)]);
    many[6] = 4;
    expect(readMessage(many)?.records).toHaveLength(1024);
    many[7] = 1;
    expect(readMessage(many)).toBeUndefined();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(40), (noise, at) => {
        const changed = good.slice();
        changed.set(noise.subarray(0, Math.max(0, changed.length - at)), Math.min(at, changed.length));
        for (const bytes of [noise, changed]) {
          const message = readMessage(bytes);
          if (message !== undefined) withoutOpt(bytes, message);
        }
      }),
      { numRuns: 500 },
    );
  });
});
