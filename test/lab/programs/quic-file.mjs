/**
 * Known bytes over QUIC, with this repository's own endpoint: the client asks by a control message, the server answers on unidirectional streams.
 * Needs a build.
 *
 * quic-file.mjs server ADDRESS:PORT --keys FILE                                 prints "listening udp ADDRESS PORT"
 * quic-file.mjs get ADDRESS:PORT --keys FILE [--bytes N] [--seed S]             prints {bytes, sha256, seconds, mtu}
 *
 * keys: JSON of {ca, wallTime, server: {certificate, key}, client: {certificate, key}}, PEM and milliseconds
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { SocketAddress } from '../../../dist/base/address.js';
import { wallAt } from '../../../dist/base/time.js';
import { READABLE } from '../../../dist/os/io.js';
import { createLinuxSockets, createReactor } from '../../../dist/os/linux/linux.js';
import { QuicEndpoint } from '../../../dist/quic/endpoint.js';
import { content, parseArguments } from './content.mjs';

/** One stream's bytes; no more than a pushed message may have. */
const PIECE = 4 * 1024 * 1024;
const RUN_SEGMENTS = 40;
const RUN_BYTES = 65_536;

const { named, plain } = parseArguments(process.argv.slice(2));
const [role, text = ''] = plain;
const isServer = role === 'server';
const remote = SocketAddress.parse(text);
if (remote === undefined) throw new Error(`${text} is not ADDRESS:PORT`);
const keys = JSON.parse(readFileSync(named['keys'] ?? '', 'utf8'));
const utf8 = { encode: new TextEncoder(), decode: new TextDecoder() };

const reactor = createReactor({
  onError: (error) => {
    throw error;
  },
});
const local = isServer ? remote : SocketAddress.parse(remote.ip.isV4 ? '0.0.0.0:0' : '[::]:0');
if (local === undefined) throw new Error('no local address');
const socket = createLinuxSockets().udp(local, { bufferBytes: 4 << 20 });
const endpoint = new QuicEndpoint({
  alpn: 'quic-file',
  ca: keys.ca,
  wallTime: wallAt(keys.wallTime),
  identity: isServer ? keys.server : keys.client,
  client: !isServer,
  ...(isServer ? { server: { accept: () => new Sender() } } : {}),
  controller: 'cubic',
  streamWindow: 256 * 1024,
});
const received = endpoint.attachReceive(socket.rx.memory);
const transmit = socket.registerTransmit(endpoint.tx);

/** What is still to be sent, as pushes find room. */
class Sender {
  /** @type {Generator<Uint8Array, void, undefined> | undefined} */
  pieces;
  /** @type {Uint8Array | undefined} */
  next;

  onConnected() {}
  onDatagrams() {}
  onClosed() {
    senders.delete(this);
  }

  /**
   * @param {number} _now
   * @param {Uint8Array} message
   * @param {import('../../../dist/quic/connection.js').QuicConnection} connection
   */
  onControlMessage(_now, message, connection) {
    const { seed, bytes } = JSON.parse(utf8.decode.decode(message));
    this.pieces = pieces(seed, bytes);
    senders.set(this, connection);
  }
}
/** @type {Map<Sender, import('../../../dist/quic/connection.js').QuicConnection>} */
const senders = new Map();

/**
 * @param {number} seed
 * @param {number} total
 */
function* pieces(seed, total) {
  let piece = Buffer.alloc(Math.min(PIECE, total));
  let filled = 0;
  let left = total;
  for (const part of content(seed, total)) {
    part.copy(piece, filled);
    filled += part.length;
    left -= part.length;
    if (filled < piece.length) continue;
    yield piece;
    piece = Buffer.alloc(Math.min(PIECE, left));
    filled = 0;
  }
}

function feed() {
  for (const [sender, connection] of senders) {
    for (;;) {
      sender.next ??= sender.pieces?.next().value ?? undefined;
      if (sender.next === undefined) {
        senders.delete(sender);
        break;
      }
      if (!connection.push(sender.next)) break;
      sender.next = undefined;
    }
  }
}

function get() {
  const wanted = Number(named['bytes'] ?? 1e6);
  const seed = Number(named['seed'] ?? 1);
  const hash = createHash('sha256');
  let bytes = 0;
  let begun = 0;
  endpoint.connect(reactor.now(), /** @type {SocketAddress} */ (remote), 'server.test', {
    onConnected: (_now, connection) => {
      begun = performance.now();
      connection.openControl().send(utf8.encode.encode(JSON.stringify({ seed, bytes: wanted })));
    },
    onPush: (now, message, connection) => {
      hash.update(message);
      bytes += message.length;
      if (bytes < wanted) return;
      const seconds = (performance.now() - begun) / 1000;
      const mtu = connection.stats()?.mtu;
      console.log(JSON.stringify({ bytes, sha256: hash.digest('hex'), seconds, mtu }));
      connection.close(now, 0, 'done');
      reactor.at(now, () => reactor.stop());
    },
    onClosed: (_now, reason) => {
      if (bytes < wanted) console.error(`closed after ${bytes} bytes: ${reason.text}`);
      reactor.stop();
    },
    onDatagrams: () => {},
    onControlMessage: () => {},
  });
}

reactor.watch(socket.fd, READABLE, () => {
  for (let rounds = 0; rounds < 4; rounds++) {
    const count = socket.receive();
    if (count <= 0) return;
    const { offsets, lengths, segments, sources } = socket.rx;
    for (let i = 0; i < count; i++) {
      endpoint.queueRun(received, offsets[i] ?? 0, lengths[i] ?? 0, segments[i] ?? 0, 0, sources, i);
    }
    endpoint.receive(reactor.now());
  }
});
reactor.onTurn((now) => {
  endpoint.process(now);
  feed();
  let offset = 0;
  while (endpoint.transmit(now, offset, RUN_SEGMENTS)) {
    const { length, segment } = endpoint.out;
    socket.send(transmit, offset, length, segment, endpoint.outAddress, 0);
    offset += (length + 63) & ~63;
    if (offset + RUN_BYTES > endpoint.tx.length) {
      socket.flush();
      offset = 0;
    }
  }
  socket.flush();
  return endpoint.nextTimeout();
});
if (isServer) console.log(`listening udp ${text}`);
else get();
await reactor.run();
process.exit(0);
