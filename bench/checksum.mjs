/**
 * Checksum, copy with checksum, parsing, segmentation and coalescing on one core. Needs a build (`npm run build`).
 *
 *   node bench/checksum.mjs [--json]
 */
import { Arena } from '../dist/wire/arena.js';
import { copyAndSum, sumRange } from '../dist/wire/checksum.js';
import { Coalescer } from '../dist/wire/gro.js';
import { segment } from '../dist/wire/gso.js';
import { ParsedPacket, parsePacket } from '../dist/wire/inner.js';
import { writeIpv4 } from '../dist/wire/ipv4.js';
import { writeTcp } from '../dist/wire/tcp.js';
import { GSO_TCPV4, VnetFields } from '../dist/wire/vnet.js';

const SIZE = 1460;
const ROUNDS = 5;
const MINIMUM_NS = 300_000_000;

const source = new Arena(1 << 17);
const target = new Arena(1 << 18);
const table = new Uint32Array(512);
source.bytes.forEach((_, i) => {
  source.bytes[i] = (i * 31) ^ (i >> 7);
});

/** Processor time, which a busy machine does not stretch as it does the wall clock. */
const cpuNanoseconds = () => process.cpuUsage().user * 1000;

/** Nanoseconds per call: the best of some rounds, each long enough to compile and to be measured. */
function measure(work) {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    let calls = 0;
    const start = cpuNanoseconds();
    let spent = 0;
    while (spent < MINIMUM_NS) {
      for (let i = 0; i < 500; i++) work(calls + i);
      calls += 500;
      spent = cpuNanoseconds() - start;
    }
    best = Math.min(best, spent / calls);
  }
  return best;
}

const rows = [];
function report(name, bytes, packets, ns) {
  rows.push({ name, nanoseconds: ns, gigabytesPerSecond: bytes / ns, millionPacketsPerSecond: (packets * 1e3) / ns });
}

let kept = 0;
report(
  'checksum, 1460 bytes, aligned',
  SIZE,
  1,
  measure((i) => {
    kept += sumRange(source, (i % 64) * 1464, SIZE);
  }),
);
report(
  'checksum, 1460 bytes, odd offset',
  SIZE,
  1,
  measure((i) => {
    kept += sumRange(source, (i % 64) * 1464 + 1, SIZE);
  }),
);
report(
  'copy and checksum, 1460 bytes',
  SIZE,
  1,
  measure((i) => {
    kept += copyAndSum(source, (i % 64) * 1464, target, (i % 80) * 1464, SIZE);
  }),
);
report(
  'copy and checksum, odd source',
  SIZE,
  1,
  measure((i) => {
    kept += copyAndSum(source, (i % 64) * 1464 + 1, target, (i % 80) * 1464, SIZE);
  }),
);

const PAYLOAD = 1348;
const SEGMENTS = 47;
const length = 52 + PAYLOAD * SEGMENTS;
writeIpv4(source.bytes, 0, {
  trafficClass: 0,
  totalLength: length,
  identification: 7,
  dontFragment: true,
  moreFragments: false,
  fragmentOffset: 0,
  hopLimit: 64,
  protocol: 6,
  source: 0x0a000001,
  destination: 0x0a000002,
});
writeTcp(source.bytes, 20, 40000, 443, 1, 2, 0x10, 500, 12);
const vnet = Object.assign(new VnetFields(), {
  flags: 1,
  gsoType: GSO_TCPV4,
  gsoSize: PAYLOAD,
  csumStart: 20,
  csumOffset: 16,
});
const cut = () => segment(source, 0, length, vnet, target, 0, table, 0);
if (cut() !== SEGMENTS) throw new Error('segmentation failed');
const packet = new ParsedPacket();
report(
  'parse a TCP packet',
  1400,
  1,
  measure((i) => {
    kept += parsePacket(target.bytes, table[(i % SEGMENTS) * 2], 1400, packet);
  }),
);
report(
  'segment 64 KB into 47 packets',
  length,
  SEGMENTS,
  measure(() => {
    kept += cut();
  }),
);
let segments = 0;
const coalescer = new Coalescer({
  emit(p) {
    segments = p.segments;
  },
});
report(
  'coalesce 47 packets into 64 KB',
  length,
  SEGMENTS,
  measure(() => {
    for (let k = 0; k < SEGMENTS; k++) coalescer.push(target, table[k * 2], table[k * 2 + 1]);
    coalescer.flush();
  }),
);
if (segments !== SEGMENTS) throw new Error('coalescing failed');

if (process.argv.includes('--json')) console.log(JSON.stringify(rows));
else {
  for (const row of rows) {
    console.log(
      `${row.name.padEnd(34)} ${row.nanoseconds.toFixed(0).padStart(7)} ns ${row.gigabytesPerSecond.toFixed(2).padStart(7)} GB/s ` +
        `${row.millionPacketsPerSecond.toFixed(2).padStart(7)} M packets/s`,
    );
  }
}
if (Number.isNaN(kept)) throw new Error('a result was not a number');
