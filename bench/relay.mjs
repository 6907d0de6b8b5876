/**
 * Relay forwarding alone, through real channels over loopback: sender ─► relay ─► sink, three processes. The relay runs its forwarder
 * in its own loop as in service; what counts is packets per second of its processor time (user and system), the kernel's part of
 * receiving and sending included. Needs a build (`npm run build`).
 *
 *   node bench/relay.mjs [seconds per case = 4] [--json]
 */
import { fork } from 'node:child_process';
import { ADDRESS_WORDS, SocketAddress } from '../dist/base/address.js';
import { Counters } from '../dist/base/counters.js';
import { DROP_REASONS } from '../dist/base/drop.js';
import { wallAt } from '../dist/base/time.js';
import { CertificateAuthority, createCa } from '../dist/identity/authority.js';
import { generateTlsKey, spkiOf } from '../dist/identity/keys.js';
import { SystemEntropy } from '../dist/os/entropy.js';
import { READABLE } from '../dist/os/io.js';
import { createLinuxSockets, createReactor } from '../dist/os/linux/linux.js';
import { ChannelTable } from '../dist/relay/channels.js';
import { makeRelayEndpoint } from '../dist/relay/endpoint.js';
import { Forwarder } from '../dist/relay/forwarder.js';
import { NO_LIMITS } from '../dist/relay/limits.js';
import { RelayNode } from '../dist/relay/node.js';
import { ProbeAnswers } from '../dist/relay/probe-answers.js';
import { putRelayed } from '../dist/tunnel/frames.js';

/** Bytes of one datagram: header and a QUIC packet as links send it. */
const SIZE = 1452;
/** Datagrams of one run: 44 × 1452 bytes just fit one segmented send. */
const RUN = 44;
/** Channels the packets are spread over, a run each. */
const CHANNELS = 64;
/** As in the relay's packet thread. */
const BUFFER_BYTES = 8 * 1024 * 1024;
const BATCH = 8;
const BATCHES_PER_TURN = 4;

const CASES = [
  { name: 'runs of 44 (GSO, GRO)', run: RUN, offered: 4_000_000 },
  { name: 'single datagrams', run: 1, offered: 400_000 },
];

const sockets = createLinuxSockets();
const any = SocketAddress.parse('127.0.0.1:0');
const packed = (text) => {
  const words = new Uint32Array(ADDRESS_WORDS);
  SocketAddress.parse(text).write(words, 0);
  return words;
};
const [, , role] = process.argv;
if (role === 'relay') await runRelay();
else if (role === 'sender') runSender();
else if (role === 'sink') runSink();
else await main();

async function runRelay() {
  const network = 'bench';
  const wall = wallAt(Date.now());
  const authority = new CertificateAuthority(network, await createCa(network, wall));
  const keyPem = generateTlsKey();
  const request = { role: 'relay', name: 'r1', spki: spkiOf(keyPem), addresses: [] };
  const endpoint = makeRelayEndpoint({
    caPem: authority.certificatePem,
    certificatePem: await authority.issue(request, wall),
    keyPem,
    resetKey: new Uint8Array(64),
    wall,
    accept: () => undefined,
  });
  const socket = sockets.udp(any, { bufferBytes: BUFFER_BYTES, batch: BATCH });
  const reactor = createReactor({
    onError: (error) => {
      throw error;
    },
  });
  const drops = new Counters(DROP_REASONS);
  const entropy = new SystemEntropy();
  const table = new ChannelTable(entropy, NO_LIMITS.channel);
  const probes = new ProbeAnswers([socket], [], drops);
  const forwarder = new Forwarder([socket], endpoint, table, drops, entropy, probes);
  const node = (kind, address) => {
    const made = new RelayNode({ role: kind, name: kind }, undefined, reactor.now(), NO_LIMITS[kind]);
    forwarder.placeNode(made, SocketAddress.parse(address));
    return made;
  };
  let turns = 0;
  reactor.watch(socket.fd, READABLE, () => {
    for (let batch = 0; batch < BATCHES_PER_TURN; batch++) {
      const entries = socket.receive();
      if (entries <= 0) return;
      forwarder.handleBatch(reactor.now(), 0, entries);
    }
  });
  reactor.onTurn((now) => {
    turns++;
    endpoint.process(now);
    forwarder.flushEndpoint(now);
    return undefined;
  });
  process.on('message', ({ ask, from, to }) => {
    if (ask === 'open') {
      const [agent, connector] = [node('agent', from), node('connector', to)];
      const open = () => table.open(reactor.now(), agent, connector, 'web');
      process.send(Array.from({ length: CHANNELS }, open).map(({ high, low }) => ({ high, low })));
    } else {
      const { user, system } = process.cpuUsage();
      const { forwardedPackets } = forwarder.counters;
      const { sendBlocked, sendFailed } = socket.counters;
      process.send({
        user,
        system,
        turns,
        forwarded: forwardedPackets,
        sendBlocked,
        sendFailed,
        drops: drops.snapshot(),
      });
    }
  });
  process.send(socket.local.toString());
  await reactor.run();
}

/** Sends at the offered rate in bursts of at most 16 runs; what the relay's socket has no room for is lost there. */
function runSender() {
  const socket = sockets.udp(any, { bufferBytes: BUFFER_BYTES });
  let stop = false;
  process.on('message', ({ ask, to, channels, run, offered }) => {
    stop = ask === 'stop';
    if (stop) return;
    const memory = socket.registerTransmit(new Uint8Array(channels.length * run * SIZE).fill(0x40));
    channels.forEach(({ high, low }, i) => {
      for (let j = 0; j < run; j++) putRelayed(memory.bytes, (i * run + j) * SIZE, high, low);
    });
    const address = packed(to);
    const started = performance.now();
    let sent = 0;
    let next = 0;
    const burst = () => {
      if (stop) return;
      const due = ((performance.now() - started) / 1000) * offered;
      for (let i = 0; i < 16 && sent < due; i++) {
        for (let j = 0; j < (run === 1 ? 32 : 1); j++) {
          socket.send(memory, next * run * SIZE, run * SIZE, SIZE, address, 0);
          next = (next + 1) % channels.length;
          sent += run;
        }
        socket.flush();
      }
      // What could not be sent in time is not sent later.
      if (sent < due - offered / 100) sent = due;
      setImmediate(burst);
    };
    burst();
  });
  process.send(socket.local.toString());
}

function runSink() {
  const socket = sockets.udp(any, { bufferBytes: BUFFER_BYTES });
  const drain = () => {
    for (let i = 0; i < 64; i++) if (socket.receive() <= 0) break;
    setTimeout(drain, 1);
  };
  drain();
  process.on('message', () => process.send(socket.counters.datagramsIn));
  process.send(socket.local.toString());
}

async function main() {
  const seconds = Number(process.argv.find((argument) => /^[\d.]+$/.test(argument)) ?? 4);
  const results = [];
  for (const one of CASES) results.push(await measure(one, seconds));
  if (process.argv.includes('--json'))
    console.log(JSON.stringify({ bench: 'relay', datagramBytes: SIZE, channels: CHANNELS, results }));
  else console.table(Object.fromEntries(results.map(({ name, ...figures }) => [name, figures])));
}

async function measure({ name, run, offered }, seconds) {
  const children = {};
  const answer = (child) => new Promise((resolve) => child.once('message', resolve));
  const ask = (child, message) => {
    const answered = answer(child);
    child.send(message);
    return answered;
  };
  const addresses = {};
  for (const kind of ['relay', 'sink', 'sender']) {
    children[kind] = fork(new URL(import.meta.url).pathname, [kind]);
    addresses[kind] = await answer(children[kind]);
  }
  const { relay, sink, sender } = children;
  try {
    const channels = await ask(relay, { ask: 'open', from: addresses.sender, to: addresses.sink });
    sender.send({ ask: 'start', to: addresses.relay, channels, run, offered });
    const pause = (span) => new Promise((resolve) => setTimeout(resolve, span));
    await pause(1000);
    const [before, arrivedBefore] = [await ask(relay, { ask: 'figures' }), await ask(sink, {})];
    const started = performance.now();
    await pause(seconds * 1000);
    const [after, arrived] = [await ask(relay, { ask: 'figures' }), await ask(sink, {})];
    const span = (performance.now() - started) / 1000;
    const cpu = (after.user + after.system - before.user - before.system) / 1e6;
    const forwarded = after.forwarded - before.forwarded;
    return {
      name,
      'packets/s': Math.round(forwarded / span),
      'per CPU second': Math.round(forwarded / cpu),
      'Gbit/s per core': Number(((forwarded * SIZE * 8) / cpu / 1e9).toFixed(1)),
      'CPU of the relay %': Math.round((cpu / span) * 100),
      'of it user %': Math.round((after.user - before.user) / 1e4 / cpu),
      'packets/turn': Math.round(forwarded / (after.turns - before.turns)),
      'at the sink %': Number((((arrived - arrivedBefore) / forwarded) * 100).toFixed(1)),
      'not sent': after.sendBlocked + after.sendFailed - before.sendBlocked - before.sendFailed,
    };
  } finally {
    for (const child of Object.values(children)) child.kill('SIGKILL');
  }
}
