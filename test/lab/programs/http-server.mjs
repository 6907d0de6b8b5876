/**
 * An HTTP server with known content.
 *
 *   GET /bytes/N?seed=S   N bytes of `content(S, N)`; Content-Length and X-Sha256 are set
 *   GET /slow/MS          "slow\n" after MS milliseconds
 *   PUT, POST /hash       JSON {bytes, sha256} of the body
 *   GET /peer             JSON {address, port} of the client as the server sees it
 *
 * http-server.mjs [--port 8080] [--address ::]; prints "listening tcp ADDRESS PORT".
 */
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { content, contentHash, parseArguments } from './content.mjs';

const { named } = parseArguments(process.argv.slice(2));
const port = Number(named['port'] ?? 8080);
const address = named['address'] ?? '::';

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.destroy());
});
server.listen(port, address, () => console.log(`listening tcp ${address} ${port}`));

/**
 * @param {import('node:http').IncomingMessage} request
 * @param {import('node:http').ServerResponse} response
 */
async function answer(request, response) {
  const url = new URL(request.url ?? '/', 'http://service');
  const [, kind, argument] = url.pathname.split('/');
  if (kind === 'bytes') {
    const total = Number(argument);
    const seed = Number(url.searchParams.get('seed') ?? 1);
    response.writeHead(200, { 'content-length': total, 'x-sha256': contentHash(seed, total) });
    await pipeline(Readable.from(content(seed, total)), response);
  } else if (kind === 'slow') {
    setTimeout(() => response.end('slow\n'), Number(argument));
  } else if (kind === 'hash') {
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const piece of request) {
      hash.update(piece);
      bytes += piece.length;
    }
    response.end(JSON.stringify({ bytes, sha256: hash.digest('hex') }));
  } else if (kind === 'peer') {
    response.end(JSON.stringify({ address: request.socket.remoteAddress, port: request.socket.remotePort }));
  } else {
    response.writeHead(404).end('not found\n');
  }
}
