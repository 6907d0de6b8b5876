/**
 * Datagrams per second through the Linux UDP socket over loopback, one sender and one receiver in one thread:
 * runs with segmentation and coalescing, batches without, and one system call per datagram.
 *
 *   node bench/udp.mjs [seconds per case = 1] [--json]        (after npm run build)
 */
import { ADDRESS_WORDS, SocketAddress } from '../dist/base/address.js';
import { createLinuxSockets } from '../dist/os/linux/linux.js';

const seconds = Number(process.argv.find((argument) => /^[\d.]+$/.test(argument)) ?? 1);
const json = process.argv.includes('--json');
/** Bytes of one datagram: a QUIC packet on a path with an MTU of 1500. */
const SIZE = 1452;
/** Datagrams of one run: 44 × 1452 bytes just fit one segmented send. */
const RUN = 44;

const cases = [
  { name: 'runs: UDP_SEGMENT, UDP_GRO', offload: true, run: RUN, perFlush: RUN, batch: 16 },
  { name: 'batches: sendmmsg, recvmmsg', offload: false, run: 1, perFlush: 64, batch: 64 },
  { name: 'one datagram per call', offload: false, run: 1, perFlush: 1, batch: 1 },
];

const sockets = createLinuxSockets();
const results = cases.map(measure);
if (json) console.log(JSON.stringify({ bench: 'udp', datagramBytes: SIZE, results }));
else console.table(Object.fromEntries(results.map(({ name, ...figures }) => [name, figures])));

function measure({ name, offload, run, perFlush, batch }) {
  const any = SocketAddress.parse('127.0.0.1:0');
  const sender = sockets.udp(any, { offload });
  const receiver = sockets.udp(any, { offload, batch });
  const to = new Uint32Array(ADDRESS_WORDS);
  receiver.local.write(to, 0);
  const memory = sender.registerTransmit(new Uint8Array(run * SIZE));
  const exchange = () => {
    for (let sent = 0; sent < perFlush; sent += run) sender.send(memory, 0, run * SIZE, SIZE, to, 0);
    sender.flush();
    while (receiver.receive() > 0);
  };
  const warm = performance.now() + 200;
  while (performance.now() < warm) exchange();
  const before = { ...receiver.counters };
  const memoryBefore = process.memoryUsage().rss;
  const cpuBefore = process.cpuUsage();
  const start = performance.now();
  while (performance.now() - start < seconds * 1000) for (let i = 0; i < 16; i++) exchange();
  const span = (performance.now() - start) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  const datagrams = receiver.counters.datagramsIn - before.datagramsIn;
  const lost = sender.counters.datagramsOut - receiver.counters.datagramsIn;
  sender.close();
  receiver.close();
  return {
    name,
    'datagrams/s': Math.round(datagrams / span),
    'Gbit/s': Number(((datagrams * SIZE * 8) / span / 1e9).toFixed(2)),
    'CPU ns/datagram': Math.round(((cpu.user + cpu.system) * 1000) / datagrams),
    lost,
    'RSS growth KiB': Math.round((process.memoryUsage().rss - memoryBefore) / 1024),
  };
}
