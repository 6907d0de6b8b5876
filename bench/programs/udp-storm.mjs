/**
 * Bursts of datagrams of many flows at once, counted where they arrive.
 *
 * udp-storm.mjs server PORT                                      prints "listening udp PORT"; on a line of standard input prints {received, seconds} and starts anew
 * udp-storm.mjs send HOST PORT [--flows 100] [--count 1000] [--size 100]    prints {sent, seconds}
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { parseArguments } from '../../test/lab/programs/content.mjs';

const BUFFER_BYTES = 64 << 20;
const { named, plain } = parseArguments(process.argv.slice(2));
if (plain[0] === 'server') {
  const socket = createSocket({ type: 'udp4', recvBufferSize: BUFFER_BYTES });
  let [received, first, last] = [0, 0, 0];
  socket.on('message', () => {
    last = performance.now();
    if (received++ === 0) first = last;
  });
  socket.bind(Number(plain[1]), () => console.log(`listening udp ${plain[1]}`));
  createInterface({ input: process.stdin }).on('line', () => {
    console.log(JSON.stringify({ received, seconds: (last - first) / 1000 }));
    received = 0;
  });
} else {
  const [, host = '127.0.0.1', port = '9'] = plain;
  const data = Buffer.alloc(Number(named['size'] ?? 100), 1);
  const count = Number(named['count'] ?? 1000);
  const sockets = await Promise.all(
    Array.from({ length: Number(named['flows'] ?? 100) }, async () => {
      const socket = createSocket('udp4');
      socket.connect(Number(port), host);
      await once(socket, 'connect');
      return socket;
    }),
  );
  let sent = 0;
  const begun = performance.now();
  await Promise.all(
    sockets.map(async (socket) => {
      for (let n = 0; n < count; n++) {
        await new Promise((resolve) => {
          socket.send(data, (error) => {
            if (!error) sent++;
            resolve(undefined);
          });
        });
      }
    }),
  );
  console.log(JSON.stringify({ sent, seconds: (performance.now() - begun) / 1000 }));
  process.exit(0);
}
