import { expect, it } from 'vitest';
import { ADDRESS_WORDS, IpAddress, SocketAddress } from '../../../src/base/address.js';
import { later, Micros } from '../../../src/base/time.js';
import { READABLE } from '../../../src/os/io.js';
import { createReactor } from '../../../src/os/linux/linux.js';
import { openUdp } from '../../../src/os/linux/udp.js';

const DATAGRAMS = 1_000_000;
/** Until here code is compiled and heaps find their size. */
const WARM = 300_000;
/** A leak of 16 bytes a datagram would already be more. */
const ALLOWED_BYTES = 10 << 20;

it('a million datagrams through socket and reactor leave no memory behind', async () => {
  const reactor = createReactor({ onError: (error) => expect.unreachable(String(error)) });
  const any = new SocketAddress(IpAddress.parse('127.0.0.1')!, 0);
  const sender = openUdp(any);
  const receiver = openUdp(any);
  const to = new Uint32Array(ADDRESS_WORDS);
  receiver.local.write(to, 0);
  const memory = sender.registerTransmit(new Uint8Array(4 * 1200));
  let settled = 0;
  const watch = reactor.watch(receiver.fd, READABLE, () => {
    while (receiver.receive() > 0);
  });
  reactor.onTurn((now) => {
    for (let i = 0; i < 4; i++) {
      sender.send(memory, i * 1200, 1200, 1200, to, 0, receiver.rx.locals, 0);
      sender.send(memory, 0, 4800, 1200, to, 0);
    }
    sender.flush();
    if (settled === 0 && receiver.counters.datagramsIn >= WARM) settled = process.memoryUsage.rss();
    if (receiver.counters.datagramsIn >= DATAGRAMS) reactor.stop();
    return later(now, Micros(0));
  });
  await reactor.run();
  watch.close();
  expect(receiver.counters.receiveErrors + sender.counters.sendFailed + sender.counters.sendBlocked).toBe(0);
  expect(process.memoryUsage.rss() - settled).toBeLessThan(ALLOWED_BYTES);
  sender.close();
  receiver.close();
});
