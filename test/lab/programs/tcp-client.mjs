/**
 * The other end of tcp-server.mjs: sends `content(seed, bytes)`, half-closes, reads to the end and prints one line of JSON:
 * {sent, sentSha256, received, receivedSha256, milliseconds}. Exit code 1 and one line on standard error when the connection fails.
 *
 * tcp-client.mjs HOST PORT [--bytes 1048576] [--seed 1] [--keep 0] (1: no half-close, ends when the server closes)
 */
import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { content, contentHash, parseArguments } from './content.mjs';

const { named, plain } = parseArguments(process.argv.slice(2));
const [host = '127.0.0.1', port = '7'] = plain;
const bytes = Number(named['bytes'] ?? 1_048_576);
const seed = Number(named['seed'] ?? 1);
const keep = named['keep'] === '1';

const started = performance.now();
const socket = connect({ host, port: Number(port), allowHalfOpen: true });
const hash = createHash('sha256');
let received = 0;
socket.on('data', (piece) => {
  hash.update(piece);
  received += piece.length;
});
const ended = new Promise((resolve, reject) => {
  socket.once('end', resolve);
  socket.once('error', reject);
});
try {
  await Promise.all([ended, pipeline(Readable.from(content(seed, bytes)), socket, { end: !keep })]);
  const milliseconds = performance.now() - started;
  const sentSha256 = contentHash(seed, bytes);
  console.log(JSON.stringify({ sent: bytes, sentSha256, received, receivedSha256: hash.digest('hex'), milliseconds }));
  socket.destroy();
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
  socket.destroy();
}
