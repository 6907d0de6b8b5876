/**
 * A plain UDP socket under remote control, to see what lies between two hosts. Each line of standard input
 * `{"to": "192.0.2.1:4000", "text": "a"}` sends a datagram and is answered by `{"sent": "a"}`; each datagram that comes is printed as
 * `{"from": "198.51.100.2:5000", "text": "a"}`.
 *
 * udp-peer.mjs ADDRESS:PORT   the local address; port 0 = any. Prints `listening ADDRESS:PORT` first.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/**
 * @param {string} text
 * @returns {[string, number]}
 */
function split(text) {
  const at = text.lastIndexOf(':');
  return [text.slice(0, at).replace(/[[\]]/g, ''), Number(text.slice(at + 1))];
}

/** @param {{address: string, port: number}} of */
const join = ({ address, port }) => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);

const [address, port] = split(process.argv[2] ?? '0.0.0.0:0');
const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4' });
socket.on('message', (text, from) => console.log(JSON.stringify({ from: join(from), text: text.toString() })));
socket.on('error', (error) => console.error(error.message));
socket.bind(port, address);
await once(socket, 'listening');
console.log(`listening ${join(socket.address())}`);
for await (const line of createInterface({ input: process.stdin })) {
  const { to, text } = JSON.parse(line);
  const [host, number] = split(to);
  socket.send(text, number, host, () => console.log(JSON.stringify({ sent: text })));
}
