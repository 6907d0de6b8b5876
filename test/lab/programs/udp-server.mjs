/**
 * A UDP echo server: every datagram goes back to where it came from, unchanged.
 *
 * udp-server.mjs [--port 7] [--address ::]; prints "listening udp ADDRESS PORT".
 */
import { createSocket } from 'node:dgram';
import { parseArguments } from './content.mjs';

const { named } = parseArguments(process.argv.slice(2));
const port = Number(named['port'] ?? 7);
const address = named['address'] ?? '::';

const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', recvBufferSize: 4 * 1024 * 1024 });
socket.on('message', (data, from) => socket.send(data, from.port, from.address));
socket.bind(port, address, () => console.log(`listening udp ${address} ${port}`));
