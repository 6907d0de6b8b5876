/**
 * DNS over TLS in front of a name server: ADDRESS PORT CERTIFICATE KEY UPSTREAM. Each message goes on over UDP, its answer back.
 */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:tls';

const [address, port, certificate, key, upstream] = process.argv.slice(2);
const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, (socket) => {
  let buffer = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (bytes) => {
    buffer = Buffer.concat([buffer, bytes]);
    while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) {
      const end = 2 + buffer.readUInt16BE(0);
      const udp = createSocket('udp4');
      udp.on('message', (answer) => {
        socket.write(Buffer.from([answer.length >> 8, answer.length & 255, ...answer]));
        udp.close();
      });
      udp.send(buffer.subarray(2, end), 53, upstream);
      buffer = buffer.subarray(end);
    }
  });
});
server.listen(Number(port), address, () => console.log('listening'));
