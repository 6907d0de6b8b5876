/** Reads a capture file (the classic format, microseconds; Ethernet or IP without anything before it) as its IP packets. */
import { readFileSync } from 'node:fs';

/** Bytes before the IP packet, by the link type (tcpdump's registry). */
const FRAMES: Readonly<Record<number, number>> = { 1: 14, 101: 0 };
const HEADER = 24;
const RECORD = 16;

export interface CaptureRecord {
  /** Since 1970. */
  readonly seconds: number;
  readonly micros: number;
  /** Bytes the packet had, with its frame; `packet` holds what was kept. */
  readonly length: number;
  readonly packet: Uint8Array;
}

export function readRecords(path: string | URL): CaptureRecord[] {
  const bytes = readFileSync(path);
  const frame = FRAMES[bytes.readUInt32LE(20)];
  if (bytes.readUInt32LE(0) !== 0xa1b2c3d4 || frame === undefined) throw new Error(`${path}: not known`);
  const records: CaptureRecord[] = [];
  for (let at = HEADER; at + RECORD <= bytes.length; ) {
    const kept = bytes.readUInt32LE(at + 8);
    records.push({
      seconds: bytes.readUInt32LE(at),
      micros: bytes.readUInt32LE(at + 4),
      length: bytes.readUInt32LE(at + 12),
      packet: new Uint8Array(bytes.subarray(at + RECORD + frame, at + RECORD + kept)),
    });
    at += RECORD + kept;
  }
  return records;
}

export function readCapture(path: string | URL): Uint8Array[] {
  return readRecords(path).map(({ packet }) => packet);
}
