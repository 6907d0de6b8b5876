/**
 * A TCP server whose behaviour its mode chooses.
 *
 *   echo     what comes goes back; half-close is answered by half-close
 *   sink     reads to the end, then answers one line of JSON {bytes, sha256} and closes
 *   source   sends `content(seed, bytes)` and closes
 *   stall    accepts, reads nothing, sends nothing
 *   reset    reads the first byte, then resets
 *
 * tcp-server.mjs [--mode echo] [--port 7] [--address ::] [--seed 1] [--bytes 1048576]; prints "listening tcp ADDRESS PORT", then
 * one line "connection ADDRESS PORT" for each, and one "closed ADDRESS PORT BYTES" with how many bytes have come; "- 0" is one that was
 * reset before it was accepted.
 */
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { content, parseArguments } from './content.mjs';

const { named } = parseArguments(process.argv.slice(2));
const mode = named['mode'] ?? 'echo';
const port = Number(named['port'] ?? 7);
const address = named['address'] ?? '::';
const seed = Number(named['seed'] ?? 1);
const total = Number(named['bytes'] ?? 1_048_576);

const server = createServer({ allowHalfOpen: true, pauseOnConnect: mode === 'stall' }, (socket) => {
  const who = `${socket.remoteAddress ?? '-'} ${socket.remotePort ?? 0}`;
  console.log(`connection ${who}`);
  socket.on('error', () => undefined);
  socket.on('close', () => console.log(`closed ${who} ${socket.bytesRead}`));
  serve(socket).catch(() => socket.destroy());
});
server.listen(port, address, () => console.log(`listening tcp ${address} ${port}`));

/** @param {import('node:net').Socket} socket */
async function serve(socket) {
  if (mode === 'echo') {
    await pipeline(socket, socket);
  } else if (mode === 'sink') {
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const piece of socket) {
      hash.update(piece);
      bytes += piece.length;
    }
    socket.end(`${JSON.stringify({ bytes, sha256: hash.digest('hex') })}\n`);
  } else if (mode === 'source') {
    await pipeline(Readable.from(content(seed, total)), socket);
  } else if (mode === 'reset') {
    socket.once('data', () => socket.resetAndDestroy());
  }
}
