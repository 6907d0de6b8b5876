/**
 * DNS over TLS, and over HTTPS with HTTP/2, in front of a name server: ADDRESS PORT HTTPS-PORT CERTIFICATE KEY UPSTREAM. Each message
 * goes on over UDP, its answer back.
 */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createSecureServer } from 'node:http2';
import { createServer } from 'node:tls';

const [address, port, httpsPort, certificate, key, upstream] = process.argv.slice(2);
const credentials = { cert: readFileSync(certificate), key: readFileSync(key) };

const ask = (query, answered) => {
  const udp = createSocket('udp4');
  udp.on('message', (answer) => {
    answered(answer);
    udp.close();
  });
  udp.send(query, 53, upstream);
};

const overTls = createServer(credentials, (socket) => {
  let buffer = Buffer.alloc(0);
  socket.on('error', () => {});
  socket.on('data', (bytes) => {
    buffer = Buffer.concat([buffer, bytes]);
    while (buffer.length >= 2 && buffer.length >= 2 + buffer.readUInt16BE(0)) {
      const end = 2 + buffer.readUInt16BE(0);
      const query = buffer.subarray(2, end);
      ask(query, (answer) => socket.write(Buffer.from([answer.length >> 8, answer.length & 255, ...answer])));
      buffer = buffer.subarray(end);
    }
  });
});

const overHttps = createSecureServer(credentials);
overHttps.on('stream', (stream) => {
  const parts = [];
  stream.on('error', () => {});
  stream.on('data', (part) => parts.push(part));
  stream.on('end', () =>
    ask(Buffer.concat(parts), (answer) => {
      stream.respond({ ':status': 200, 'content-type': 'application/dns-message' });
      stream.end(answer);
    }),
  );
});

overTls.listen(Number(port), address, () =>
  overHttps.listen(Number(httpsPort), address, () => console.log('listening')),
);
