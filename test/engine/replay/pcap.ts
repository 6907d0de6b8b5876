/** Reads a capture file (the classic format, microseconds, Ethernet) as its IP packets. */
import { readFileSync } from 'node:fs';

const ETHERNET = 1;
const HEADER = 24;
const RECORD = 16;
const FRAME = 14;

export function readCapture(path: string | URL): Uint8Array[] {
  const bytes = readFileSync(path);
  if (bytes.readUInt32LE(0) !== 0xa1b2c3d4 || bytes.readUInt32LE(20) !== ETHERNET)
    throw new Error(`${path}: not known`);
  const packets: Uint8Array[] = [];
  for (let at = HEADER; at + RECORD <= bytes.length; ) {
    const length = bytes.readUInt32LE(at + 8);
    packets.push(new Uint8Array(bytes.subarray(at + RECORD + FRAME, at + RECORD + length)));
    at += RECORD + length;
  }
  return packets;
}
