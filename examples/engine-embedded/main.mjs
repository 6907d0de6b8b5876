/**
 * An engine inside a program of one's own: no privilege, no TUN device. Where a real host reads packets from a device or tunnel, this
 * one has the stack of `sallyport/netstack` play the programs that send them.
 *
 *   programs (Stack) ─ packets ─► Engine ─ connections.mjs ─► an echo service on 127.0.0.1, TCP and UDP
 *
 *   node examples/engine-embedded/main.mjs
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { nodePlatform } from 'sallyport';
import { Engine, IpAddress, SocketAddress } from 'sallyport/engine';
import { Arena, instantAt, Packetizer, Stack } from 'sallyport/netstack';
import { nodeConnections } from './connections.mjs';

const text = (bytes) => new TextDecoder().decode(bytes);
const bytes = (value) => new TextEncoder().encode(value);

// What the programs want to reach.
const tcpService = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
const udpService = createSocket('udp4').bind(0, '127.0.0.1');
udpService.on('message', (data, { port, address }) => udpService.send(data, port, address));
await Promise.all([once(tcpService, 'listening'), once(udpService, 'listening')]);
const tcp = SocketAddress.parse(`127.0.0.1:${tcpService.address().port}`);
const udp = SocketAddress.parse(`127.0.0.1:${udpService.address().port}`);

// The engine, and what it knows of this host.
const platform = nodePlatform();
const engine = new Engine({
  device: { packets: (packets) => toPrograms(packets) },
  // 10.0.0.9 is the echo service, whatever the port.
  dialers: {
    direct: nodeConnections(
      () => engine,
      ({ port }) => (port === 9 ? udp : tcp),
    ),
  },
  platform,
  preset: 'mobile',
  rules: ['reject port=25', 'shape port=7 delay=20ms'],
  hooks: {
    // UDP port 13 is a service of this program's own: it says what time it is.
    onFlow: ({ protocol, destination }) =>
      protocol === 'udp' && destination.port === 13 ? { action: 'serve', udp: tellTime } : undefined,
  },
  log: (level, message, fields) => console.error(level, message, fields),
  logLevel: 'info',
});

// The programs: a stack with an address of its own. A real host has packets of the operating system here.
const toEngine = new Packetizer(new Arena(1 << 18), 256, ({ arena, table, count }) => {
  const packet = (i) => arena.bytes.subarray(table[2 * i], table[2 * i] + table[2 * i + 1]);
  engine.packets(Array.from({ length: count }, (_, i) => packet(i)));
});
const programs = new Stack({
  mtu: 1500,
  sink: toEngine,
  handlers: { onUdp: (_addresses, data, offset, length) => void heard(text(data.subarray(offset, offset + length))) },
  entropy: platform.entropy,
  crypto: platform.crypto,
  localV4: IpAddress.parse('10.83.0.1'),
});
const room = new Arena(65_536);

function tellTime(addresses) {
  engine.answer(SocketAddress.read(addresses, 1), SocketAddress.read(addresses, 0), bytes('time to go'));
}

function toPrograms(packets) {
  for (const packet of packets) {
    room.bytes.set(packet);
    programs.handlePacket(instantAt(platform.now()), room, 0, packet.length);
  }
  turn();
}

function turn() {
  const now = instantAt(platform.now());
  if ((programs.pollTimeout() ?? Infinity) <= now) programs.handleTimeout(now);
  programs.flush(now);
  toEngine.flush();
}

/** Says something on a connection; resolves with what comes back, or why it has ended. */
function say(to, what) {
  return new Promise((resolve) => {
    let heardSoFar = '';
    const connection = programs.connect(instantAt(platform.now()), SocketAddress.parse(to), {
      onConnected: () => {
        connection.write(bytes(what), 0, what.length);
        connection.shutdownWrite();
      },
      onData: (data, offset, length) => {
        heardSoFar += text(data.subarray(offset, offset + length));
        return length;
      },
      onPeerClosed: () => resolve(heardSoFar),
      onClosed: resolve,
    });
    turn();
  });
}

let heard;

/** Sends a datagram; resolves with the next one that comes. */
function send(to, what) {
  const addresses = new Uint32Array(10);
  SocketAddress.parse('10.83.0.1:5000').write(addresses, 0);
  SocketAddress.parse(to).write(addresses, 1);
  const answer = new Promise((resolve) => {
    heard = resolve;
  });
  programs.sendUdp(instantAt(platform.now()), addresses, 0, 1, bytes(what), 0, what.length);
  turn();
  return answer;
}

engine.start();
const ticking = setInterval(turn, 10);
console.log('tcp:', await say('10.0.0.9:7', 'hello'));
console.log('rejected:', await say('10.0.0.9:25', 'mail'));
engine.setRules([]);
console.log('no longer rejected:', await say('10.0.0.9:25', 'mail'));
console.log('udp:', await send('10.0.0.9:9', 'datagram'));
console.log('served:', await send('10.0.0.9:13', '?'));
const { values } = engine.snapshot();
console.log('flows:', values['flows_opened{protocol=tcp}'], 'tcp,', values['flows_opened{protocol=udp}'], 'udp');

clearInterval(ticking);
engine.stop();
tcpService.close();
udpService.close();
