import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeUtf8 } from '../../src/base/utf8.js';
import {
  decodeMessage,
  encodeMessage,
  FromRelay,
  formatChannel,
  parseChannel,
  ToAgent,
  ToConnector,
  ToRelay,
} from '../../src/tunnel/messages.js';
import { SERVICE_ID } from '../../src/tunnel/service-id.js';

const hello: ToRelay = {
  type: 'hello',
  version: 1,
  role: 'agent',
  software: 'sallyport/0.1.0',
  capabilities: [],
  proof: { any: 'thing' },
};

describe('control messages', () => {
  it('survive encoding and decoding', () => {
    const messages: ToRelay[] = [
      hello,
      { type: 'open', id: 1, service: 'web', connector: 'c1' },
      { type: 'register', id: 2, services: [{ id: 'web' }] },
      { type: 'ready', channel: '0123456789abcdef' },
      { type: 'close', channel: '0123456789abcdef', reason: 'done' },
    ];
    for (const message of messages) {
      expect(decodeMessage(ToRelay, encodeMessage(message))).toEqual({ ok: true, message });
    }
  });

  it('ignore unknown fields, and tell an unknown type from a wrong field', () => {
    const extra = encodeUtf8(JSON.stringify({ ...hello, later: true }));
    expect(decodeMessage(ToRelay, extra)).toEqual({ ok: true, message: hello });
    const unknown = decodeMessage(ToRelay, encodeUtf8('{"type":"teleport","id":7}'));
    expect(unknown).toMatchObject({ ok: false, id: 7, unknownType: true });
    const wrong = decodeMessage(ToRelay, encodeUtf8('{"type":"open","id":7,"service":"Web"}'));
    expect(wrong).toMatchObject({ ok: false, id: 7, unknownType: false });
  });

  it('that are random bytes or random JSON are refused without throwing', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array(),
          fc.jsonValue().map((value) => encodeUtf8(JSON.stringify(value))),
        ),
        (bytes) => {
          for (const schema of [ToRelay, FromRelay, ToConnector, ToAgent]) {
            expect(decodeMessage<unknown>(schema, bytes).ok).toBe(false);
          }
        },
      ),
    );
  });

  it('name channels by 16 hex digits', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }), fc.integer({ min: 0, max: 0xffffffff }), (high, low) => {
        const text = formatChannel(high, low);
        expect(text).toMatch(/^[0-9a-f]{16}$/);
        expect(parseChannel(text)).toEqual({ high, low });
      }),
    );
  });

  it('hold service ids of one lower-case DNS label of 1 to 63 characters', () => {
    for (const good of ['a', 'web', 'db-1', '0', 'a'.repeat(63)]) expect(SERVICE_ID.test(good)).toBe(true);
    for (const bad of ['', 'Web', '-a', 'a-', 'a.b', 'a_b', 'a'.repeat(64), 'ü'])
      expect(SERVICE_ID.test(bad)).toBe(false);
  });
});
