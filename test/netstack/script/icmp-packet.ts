/** ICMP errors about a segment of the stack under test, as a router on the way would send them. */
import { Arena } from '../../../src/wire/arena.js';
import { completeIcmp, writeIcmp } from '../../../src/wire/icmp.js';
import { ipPacket, tcpPacket, type WirePeer } from '../wire-peer.js';

/** `mtu` > 0: too big for a link of that size; 0: host unreachable. `seq` is absolute. */
export function icmpError(w: WirePeer, seq: number, mtu: number): Uint8Array {
  const isV4 = w.local.ip.isV4;
  const quoted = tcpPacket(w.local, w.remote, 'A', { seq }).subarray(0, isV4 ? 28 : 48);
  const message = new Uint8Array(8 + quoted.length);
  if (isV4) writeIcmp(message, 0, 3, mtu > 0 ? 4 : 1, mtu);
  else writeIcmp(message, 0, mtu > 0 ? 2 : 1, 0, mtu);
  message.set(quoted, 8);
  const packet = ipPacket(w.remote.ip, w.local.ip, isV4 ? 1 : 58, message);
  const arena = new Arena(packet.length);
  arena.bytes.set(packet);
  completeIcmp(arena, 0, isV4 ? 20 : 40, message.length);
  return arena.bytes.slice(0, packet.length);
}
