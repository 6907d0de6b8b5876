/**
 * Which packets a kernel filter lets through: makes a TUN device, lets packets come in by it, and prints as JSON, for each
 * filter on standard input's one line, the names of those that the packet source handed over.
 */
import { SocketAddress } from '../../../../src/base/address.js';
import { createLinuxSockets } from '../../../../src/os/linux/linux.js';
import { openLinuxPacketIo } from '../../../../src/os/linux/packet-io.js';
import type { FilterSpec } from '../../../../src/os/packet-io.js';
import { run } from '../../../lab/host.js';
import { icmp, ip, tcp, text, udp } from '../../../trace/net/packets.js';

const v4 = { from: ip('198.51.100.9'), to: ip('198.51.100.1') };
const v6 = { from: ip('2001:db8:77::9'), to: ip('2001:db8:77::1') };
const ports = { sourcePort: 443, destinationPort: 40_000, sequence: 1, acknowledgment: 2 };
const packets = {
  icmp4: icmp(v4, 0, 0, 0, new Uint8Array(8)),
  icmp6: icmp(v6, 129, 0, 0, new Uint8Array(8)),
  udp4: udp(v4, 53, 40_000, new Uint8Array(4)),
  udp6: udp(v6, 53, 40_000, new Uint8Array(4)),
  syn4: tcp(v4, { ...ports, flags: 2 }),
  synAck4: tcp(v4, { ...ports, flags: 0x12 }),
  syn6: tcp(v6, { ...ports, flags: 2 }),
  synAck6: tcp(v6, { ...ports, flags: 0x12 }),
};
const tuple = (ends: typeof v4): FilterSpec => ({
  kind: 'tcp',
  source: new SocketAddress(ends.from, 443),
  destination: new SocketAddress(ends.to, 40_000),
});
const specs: Record<string, FilterSpec> = {
  nothing: { kind: 'nothing' },
  none: { kind: 'none' },
  icmp: { kind: 'icmp' },
  udp: { kind: 'udp' },
  'tcp over IPv4': tuple(v4),
  'tcp over IPv6': tuple(v6),
  'syn-ack': { kind: 'syn-ack' },
  'our port': { kind: 'ports', ports: [40_000] },
  'another port': { kind: 'ports', ports: [40_001] },
};

const tun = createLinuxSockets().tun({ name: 'link', offload: false });
run(['ip', 'address', 'add', '198.51.100.1/24', 'dev', 'link']);
run(['ip', 'address', 'add', '2001:db8:77::1/64', 'dev', 'link', 'nodad']);
run(['ip', 'link', 'set', 'dev', 'link', 'up']);
const memory = tun.register(new Uint8Array(2048));

const names = new Map(Object.entries(packets).map(([name, bytes]) => [text(bytes), name]));
const seen: string[] = [];
const io = openLinuxPacketIo((error) => console.error(error));
const found: Record<string, string> = {};
for (const [label, spec] of Object.entries(specs)) {
  seen.length = 0;
  const source = io.source((bytes, offset, length) => {
    const name = names.get(text(bytes.subarray(offset, offset + length)));
    if (name !== undefined) seen.push(name);
  });
  // What came before the filter is not handed over.
  inject();
  source.filter(spec);
  source.drain();
  const early = seen.length;
  inject();
  source.drain();
  found[label] = early > 0 ? 'early' : seen.join(' ');
  source.close();
}
io.close();
tun.close();
console.log(JSON.stringify(found));

/** A packet written to a TUN device has been received when the call returns. */
function inject(): void {
  for (const bytes of Object.values(packets)) {
    memory.bytes.set(bytes);
    tun.write(memory, 0, bytes.length);
  }
}
