import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DatagramBatchWriter, MAX_BATCH, MAX_PAYLOAD, readDatagramBatch } from '../../src/tunnel/datagram-batch.js';

const read = (message: Uint8Array): { isWhole: boolean; payloads: Uint8Array[] } => {
  const payloads: Uint8Array[] = [];
  const isWhole = readDatagramBatch(message, (payload) => payloads.push(payload.slice()));
  return { isWhole, payloads };
};

describe('datagrams in a message', () => {
  it('come out as they went in', () => {
    const payload = fc.uint8Array({ minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(fc.array(payload, { maxLength: 50 }), (payloads) => {
        const writer = new DatagramBatchWriter();
        for (const one of payloads) expect(writer.add(one)).toBe(true);
        expect(read(writer.take())).toEqual({ isWhole: true, payloads });
        expect(writer.isEmpty).toBe(true);
      }),
    );
  });

  it('are refused when empty, too long, or too many', () => {
    const writer = new DatagramBatchWriter();
    expect(writer.add(new Uint8Array(0))).toBe(false);
    expect(writer.add(new Uint8Array(MAX_PAYLOAD + 1))).toBe(false);
    const most = Math.floor(MAX_BATCH / (MAX_PAYLOAD + 2));
    for (let i = 0; i < most; i++) expect(writer.add(new Uint8Array(MAX_PAYLOAD))).toBe(true);
    expect(writer.add(new Uint8Array(MAX_PAYLOAD))).toBe(false);
    expect(read(writer.take()).payloads).toHaveLength(most);
  });

  it('that are random bytes never throw and never reach beyond the message', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (message) => {
        const { isWhole, payloads } = read(message);
        const used = payloads.reduce((sum, one) => sum + one.length + 2, 0);
        expect(used).toBeLessThanOrEqual(message.length);
        expect(isWhole).toBe(used === message.length);
      }),
    );
  });
});
