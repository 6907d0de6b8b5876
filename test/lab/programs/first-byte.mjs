/**
 * Ends when one byte has gone to an echo service and back. Opens a connection every 25 ms until one has, so a way that comes into being
 * is seen at once: a connection tried before would send its SYN again a second later.
 *
 * first-byte.mjs HOST PORT [--seconds 60]   exit code 1 when the time is over
 */
import { connect } from 'node:net';
import { parseArguments } from './content.mjs';

const EVERY_MS = 25;
const { named, plain } = parseArguments(process.argv.slice(2));
const [host = '127.0.0.1', port = '7'] = plain;
const until = performance.now() + Number(named['seconds'] ?? 60) * 1000;

function attempt() {
  if (performance.now() > until) process.exit(1);
  const socket = connect({ host, port: Number(port) }, () => socket.write('x'));
  socket.on('error', () => socket.destroy());
  socket.once('data', () => process.exit(0));
}
attempt();
setInterval(attempt, EVERY_MS);
