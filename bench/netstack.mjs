/**
 * TCP through two userspace stacks back to back on one core: how fast one connection moves bytes. Needs a build
 * (`npm run build`). The sender copies its data into the send buffer (as read(2) would), the receiver takes it as offered.
 *
 *   supers    super-segments handed over as they are: one copy from the send buffer, no checksums
 *   gro       cut into packets of the MTU with checksums (wire/gso), verified and coalesced again (wire/gro)
 *   packets   cut into packets, each verified and handled by itself
 *
 *   node bench/netstack.mjs [--json]
 */
import { createHmac } from 'node:crypto';
import { SocketAddress } from '../dist/base/address.js';
import { SeededEntropy } from '../dist/base/entropy.js';
import { Packetizer } from '../dist/netstack/packetizer.js';
import { Stack } from '../dist/netstack/stack.js';
import { Arena } from '../dist/wire/arena.js';
import { Coalescer } from '../dist/wire/gro.js';

const MTU = 1400;
const ROUND_BYTES = 256 * 1024 * 1024;
const ROUNDS = 5;
/** Virtual time of one turn, µs. */
const TURN = 100;
const crypto = { hmacSha256: (key, data) => new Uint8Array(createHmac('sha256', key).update(data).digest()) };

/** Keeps super-segments in an arena until they are handed over. */
class Supers {
  constructor() {
    this.arena = new Arena(1 << 23);
    this.table = [];
    this.end = 0;
  }

  emit(packet, offset, length) {
    this.arena.bytes.set(packet.bytes.subarray(offset, offset + length), this.end);
    this.table.push(this.end, length, 0);
    this.end += (length + 3) & ~3;
  }

  emitTcp(header, headerOffset, headerLength, payload, offset, length, segmentSize) {
    this.arena.bytes.set(header.bytes.subarray(headerOffset, headerOffset + headerLength), this.end);
    this.arena.bytes.set(payload.bytes.subarray(offset, offset + length), this.end + headerLength);
    this.table.push(this.end, headerLength + length, segmentSize);
    this.end += (headerLength + length + 3) & ~3;
  }

  deliver(stack, now) {
    for (let i = 0; i < this.table.length; i += 3) {
      stack.handlePacket(now, this.arena, this.table[i], this.table[i + 1], this.table[i + 2], true);
    }
    this.table.length = 0;
    this.end = 0;
  }
}

/** Cuts into packets and hands each over, through a coalescer or not. */
class Packets extends Packetizer {
  constructor(coalesce) {
    const queue = { arena: new Arena(1 << 23), table: [], end: 0 };
    super(new Arena(1 << 18), 512, (batch) => {
      for (let i = 0; i < batch.count; i++) {
        const at = batch.table[2 * i];
        const length = batch.table[2 * i + 1];
        if (coalesce) this.coalescer.push(batch.arena, at, length);
        else this.peer.handlePacket(this.now, batch.arena, at, length, 0, false);
      }
    });
    this.queue = queue;
    this.coalescer = new Coalescer({
      emit: (p) => this.peer.handlePacket(this.now, p.arena, p.offset, p.length, p.gsoSize, p.checked),
    });
  }

  deliver(stack, now) {
    this.peer = stack;
    this.now = now;
    this.flush();
    this.coalescer.flush();
  }
}

/** Packets must not reach the peer inside this stack's flush; a full batch may, because the peer only notes what it owes. */
function run(sinks, family) {
  const [a, b] = sinks;
  const options = (sink, seed) => ({ mtu: MTU, sink, entropy: new SeededEntropy(seed), crypto });
  const address = family === 4 ? '10.0.0.2:80' : '[fd00::2]:80';
  const from = SocketAddress.parse(family === 4 ? '10.0.0.1:50000' : '[fd00::1]:50000');
  let received = 0;
  const server = new Stack({
    ...options(b, 2),
    handlers: {
      onSyn: (request) =>
        request.accept({
          onData: (_bytes, _offset, length) => {
            received += length;
            return length;
          },
          onClosed: () => {},
        }),
    },
  });
  const client = new Stack({ ...options(a, 1), handlers: {} });
  a.peer = server;
  b.peer = client;
  let now = 1_000_000;
  const connection = client.connect(
    now,
    SocketAddress.parse(address),
    { onData: (_b, _o, length) => length, onClosed: () => {} },
    from,
  );
  const data = new Uint8Array(65536).map((_, i) => i * 7);
  const turn = () => {
    now += TURN;
    a.now = now;
    b.now = now;
    for (;;) {
      const n = connection.write(data, 0, data.length);
      if (n < data.length) break;
    }
    client.flush(now);
    a.deliver(server, now);
    server.flush(now);
    b.deliver(client, now);
    for (const stack of [client, server]) if (stack.pollTimeout() <= now) stack.handleTimeout(now);
  };
  let best = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const start = received;
    const before = process.cpuUsage();
    while (received - start < ROUND_BYTES) turn();
    const cpu = process.cpuUsage(before);
    best = Math.max(best, ((received - start) * 8) / ((cpu.user + cpu.system) * 1000));
  }
  const retransmits = client.counters.stack.get('tcp_retransmits');
  if (retransmits > 0) console.error(`${retransmits} retransmissions`);
  return best;
}

const results = {};
for (const family of [4, 6]) {
  results[`supers v${family}`] = run([new Supers(), new Supers()], family);
  results[`gro v${family}`] = run([new Packets(true), new Packets(true)], family);
  results[`packets v${family}`] = run([new Packets(false), new Packets(false)], family);
}
if (process.argv.includes('--json')) console.log(JSON.stringify(results));
else for (const [name, gbit] of Object.entries(results)) console.log(`${name.padEnd(12)} ${gbit.toFixed(2)} Gbit/s`);
