/**
 * A path of one router and one target behind a TUN device, simulated: the router at TTL 1 answers with the label stack and the
 * interface it saw the packet on; everything beyond is the target. Says "ready" when packets may come.
 *
 *   argv: the router's address, and the target's (one family)
 */
import { IpAddress } from '../../../../src/base/address.js';
import { createLinuxSockets, createReactor } from '../../../../src/os/linux/linux.js';
import { writeU16 } from '../../../../src/wire/bytes.js';
import { finish, sumBytes } from '../../../../src/wire/checksum.js';
import { ParsedPacket, parsePacket } from '../../../../src/wire/inner.js';
import { run } from '../../../lab/host.js';
import { icmp, ip, unreachable } from '../../../trace/net/packets.js';

const [, , routerText, targetText] = process.argv;
const router = ip(routerText!);
const target = ip(targetText!);
const QUOTE = 128;

const tun = createLinuxSockets().tun({ name: 'hop', offload: false });
run(['ip', 'link', 'set', 'dev', 'hop', 'up']);
run(['ip', 'route', 'add', targetText!, 'dev', 'hop']);
const memory = tun.register(new Uint8Array(4096));
const packet = new ParsedPacket();
const reactor = createReactor({ onError: (error) => console.error(error) });
reactor.watch(tun.fd, 1, () => {
  for (let length = tun.read(memory, 0, 2048); length > 0; length = tun.read(memory, 0, 2048)) answer(length);
});
console.log('ready');
await reactor.run();

function answer(length: number): void {
  if (parsePacket(memory.bytes, 0, length, packet) !== 0 || packet.family !== target.family) return;
  const probe = memory.bytes.slice(0, length);
  const to = new IpAddress(packet.source0, packet.source1, packet.source2, packet.source3);
  const reply =
    packet.hopLimit > 1 ? unreachable({ from: target, to }, probe, target.isV4 ? 3 : 4) : labelled(probe, to);
  memory.bytes.set(reply);
  tun.write(memory, 0, reply.length);
}

/** RFC 4884 with RFC 4950 (two labels) and RFC 5837 (the incoming interface's name). */
function labelled(probe: Uint8Array, to: IpAddress): Uint8Array {
  const objects = [
    0, 12, 1, 1, 0x00, 0x3e, 0x8a, 0xff, 0x00, 0x01, 0x01, 0x01, 0, 12, 2, 0x02, 8, 0x65, 0x74, 0x68, 0x37, 0, 0, 0,
  ];
  const body = new Uint8Array(QUOTE + 4 + objects.length);
  body.set(probe.subarray(0, QUOTE));
  body[QUOTE] = 0x20;
  body.set(objects, QUOTE + 4);
  writeU16(body, QUOTE + 2, finish(sumBytes(body, QUOTE, body.length - QUOTE)));
  const rest = router.isV4 ? (QUOTE / 4) * 0x1_0000 : (QUOTE / 8) * 0x100_0000;
  return icmp({ from: router, to }, router.isV4 ? 11 : 3, 0, rest, body);
}
