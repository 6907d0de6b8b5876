/** An HTTP proxy for CONNECT alone, that wants the user `alice` with the password `secret`: `node connect-proxy.mjs PORT`. */
import { createServer } from 'node:http';
import { connect } from 'node:net';

const WANTED = `Basic ${Buffer.from('alice:secret').toString('base64')}`;
const server = createServer((_request, response) => response.writeHead(405).end());
server.on('connect', (request, client) => {
  client.on('error', () => undefined);
  if (request.headers['proxy-authorization'] !== WANTED) {
    client.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n');
    return;
  }
  console.log(`CONNECT ${request.url}`);
  const [host, port] = request.url.split(':');
  const target = connect(Number(port), host, () => {
    client.write('HTTP/1.1 200 Connection established\r\n\r\n');
    client.pipe(target);
    target.pipe(client);
  });
  target.on('error', () => client.destroy());
  client.on('close', () => target.destroy());
});
server.listen(Number(process.argv[2]), '0.0.0.0');
