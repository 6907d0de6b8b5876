/** What a line of routers answers to the probes of a trace, as bytes; for systems in memory. */
import type { IpAddress } from '../../src/base/address.js';
import { icmp, ip, tcp, timeExceeded, unreachable } from '../trace/net/packets.js';

export const TARGET = { 4: ip('203.0.113.9'), 6: ip('2001:db8:9::9') } as const;
export const LOCAL = { 4: ip('192.0.2.1'), 6: ip('2001:db8::1') } as const;
export const router = (family: 4 | 6, ttl: number): IpAddress => ip(family === 4 ? `10.0.${ttl}.1` : `fd00:${ttl}::1`);

/** Routers up to a target at TTL 4, five milliseconds apart. */
export const lineOfRouters = (packet: Uint8Array): { after: number; packet: Uint8Array }[] => {
  const family = packet[0]! >>> 4 === 4 ? 4 : 6;
  const [ttl, protocol, at] = family === 4 ? [packet[8]!, packet[9]!, 20] : [packet[7]!, packet[6]!, 40];
  const answer = (after: number, bytes: Uint8Array) => [{ after, packet: bytes }];
  if (ttl < 4) return answer(5 * ttl, timeExceeded({ from: router(family, ttl), to: LOCAL[family] }, packet));
  const ends = { from: TARGET[family], to: LOCAL[family] };
  const view = new DataView(packet.buffer, packet.byteOffset);
  if (protocol === 17) return answer(20, unreachable(ends, packet, family === 4 ? 3 : 4));
  if (protocol === 6) {
    const ports = { sourcePort: view.getUint16(at + 2), destinationPort: view.getUint16(at) };
    const acknowledgment = (view.getUint32(at + 4) + 1) >>> 0;
    return answer(20, tcp(ends, { ...ports, sequence: 1, acknowledgment, flags: 0x12 }));
  }
  return answer(20, icmp(ends, family === 4 ? 0 : 129, 0, view.getUint32(at + 4), packet.subarray(at + 8)));
};
