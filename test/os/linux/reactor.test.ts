import { createHash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { IpAddress, SocketAddress } from '../../../src/base/address.js';
import { type Instant, instantAt, later, Micros, Millis } from '../../../src/base/time.js';
import { BROKEN, READABLE, type UdpSocket, type Watch, WRITABLE } from '../../../src/os/io.js';
import { close } from '../../../src/os/linux/libc.js';
import { createLinuxSockets, createReactor } from '../../../src/os/linux/linux.js';
import { CONTROL_CELLS, type EpollReactor, HEARTBEAT_CELL, STOP_CELL } from '../../../src/os/linux/reactor.js';
import { openUdp } from '../../../src/os/linux/udp.js';
import { makeWakeFd } from '../../../src/os/linux/wake.js';

const LOOPBACK = new SocketAddress(IpAddress.parse('127.0.0.1')!, 0);
const BELL = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);

function strict(): EpollReactor {
  return createReactor({
    onError: (error) => {
      throw error;
    },
  });
}

/** A socket that is readable for ever: one datagram that nobody takes. */
function alwaysReady(): UdpSocket {
  const socket = openUdp(LOOPBACK);
  sendTo(socket, socket.local);
  return socket;
}

function sendTo(socket: UdpSocket, to: SocketAddress): void {
  const words = new Uint32Array(5);
  to.write(words, 0);
  socket.send(socket.registerTransmit(new Uint8Array(1)), 0, 1, 1, words, 0);
  socket.flush();
}

/** Keeps the thread busy for so long. */
function work(reactor: EpollReactor, milliseconds: number): void {
  const end = later(reactor.readClock(), Millis(milliseconds));
  while (reactor.readClock() < end);
}

describe('lag', () => {
  it('is how long after it was due a turn begins, for timers, hooks and descriptors', async () => {
    const lags: Record<string, number> = {};
    const inTurn = async (name: string, prepare: (reactor: EpollReactor, then: () => void) => void): Promise<void> => {
      const reactor = strict();
      prepare(reactor, () => {
        lags[name] = reactor.lag;
        reactor.stop();
      });
      await reactor.run();
    };
    await inTurn('timer', (reactor, then) => {
      const start = reactor.readClock();
      reactor.at(start, () => work(reactor, 30));
      reactor.at(later(start, Millis(10)), then);
    });
    await inTurn('hook', (reactor, then) => {
      let turns = 0;
      reactor.onTurn((now) => {
        if (++turns === 2) then();
        else work(reactor, 20);
        return now;
      });
    });
    const sender = openUdp(LOOPBACK);
    const socket = openUdp(LOOPBACK);
    await inTurn('descriptor', (reactor, then) => {
      let isSent = false;
      reactor.watch(socket.fd, READABLE, () => isSent && then());
      reactor.at(reactor.readClock(), () => {
        sendTo(sender, socket.local);
        isSent = true;
        work(reactor, 20);
      });
    });
    sender.close();
    socket.close();
    expect(lags['timer']).toBeGreaterThanOrEqual(15_000);
    expect(lags['hook']).toBeGreaterThanOrEqual(20_000);
    expect(lags['descriptor']).toBeGreaterThanOrEqual(20_000);
  });

  it('of a timer set for the past counts from when it was set', async () => {
    const start = performance.now();
    const reactor = strict();
    let lag = Number.NaN;
    reactor.at(instantAt(0), () => {
      lag = reactor.lag;
      reactor.stop();
    });
    await reactor.run();
    expect(lag).toBeLessThan((performance.now() - start) * 1_000);
  });
});

describe('timers', () => {
  it('fire in the order of their deadlines, never early, and not when cancelled', async () => {
    const reactor = strict();
    const fired: string[] = [];
    const start = reactor.readClock();
    const arm = (name: string, delay: number): (() => void) => {
      const at = later(start, Micros(delay));
      return reactor.at(at, (now) => {
        expect(now).toBeGreaterThanOrEqual(at);
        fired.push(name);
      });
    };
    arm('third', 9_000);
    arm('first', 300);
    const cancel = arm('never', 2_000);
    arm('second', 1_500);
    reactor.at(later(start, Millis(10)), () => reactor.stop());
    cancel();
    cancel();
    await reactor.run();
    expect(fired).toEqual(['first', 'second', 'third']);
  });

  it('may cancel one another in the same turn, and arm new ones', async () => {
    const reactor = strict();
    const fired: string[] = [];
    const past = instantAt(0);
    let cancelSecond = (): void => undefined;
    reactor.at(past, () => {
      fired.push('first');
      cancelSecond();
      reactor.at(past, () => {
        fired.push('armed inside');
        reactor.stop();
      });
    });
    cancelSecond = reactor.at(past, () => fired.push('second'));
    await reactor.run();
    expect(fired).toEqual(['first', 'armed inside']);
  });

  it('come before the hooks of their turn, and a hook says when it wants to run next', async () => {
    const reactor = strict();
    const log: string[] = [];
    let wanted: Instant | undefined;
    reactor.at(instantAt(0), () => log.push('timer'));
    reactor.onTurn((now) => {
      log.push('hook');
      if (wanted === undefined) wanted = later(now, Micros(700));
      else if (now >= wanted) reactor.stop();
      return wanted;
    });
    await reactor.run();
    expect(log.slice(0, 2)).toEqual(['timer', 'hook']);
    expect(reactor.now()).toBeGreaterThanOrEqual(wanted!);
  });
});

describe('watches', () => {
  it('report what is asked for, and change without being made anew', async () => {
    const reactor = strict();
    const socket = openUdp(LOOPBACK);
    const seen: number[] = [];
    const watch = reactor.watch(socket.fd, WRITABLE, (ready) => {
      seen.push(ready);
      if (seen.length === 1) {
        watch.interest(READABLE);
        sendTo(socket, socket.local);
      } else if (seen.length === 2) watch.interest(READABLE | WRITABLE);
      else if (seen.length === 3) {
        watch.interest(0);
        reactor.at(later(reactor.now(), Millis(2)), () => reactor.stop());
      }
    });
    await reactor.run();
    watch.close();
    socket.close();
    expect(seen).toEqual([WRITABLE, READABLE, READABLE | WRITABLE]);
  });

  it('never call a handler that another handler of the same turn has closed', async () => {
    const reactor = strict();
    const sockets = [alwaysReady(), alwaysReady(), alwaysReady()];
    const calls: number[] = [];
    const watches: Watch[] = [];
    sockets.forEach((socket, i) => {
      watches.push(
        reactor.watch(socket.fd, READABLE, () => {
          calls.push(i);
          for (const watch of watches) watch.close();
          for (const other of sockets) other.close();
          // The slot and the descriptor number are used again at once, by something that is not readable.
          const next = openUdp(LOOPBACK);
          const newcomer = reactor.watch(next.fd, READABLE, () => calls.push(100));
          reactor.at(later(reactor.now(), Millis(2)), () => {
            newcomer.close();
            next.close();
            reactor.stop();
          });
        }),
      );
    });
    await reactor.run();
    expect(calls).toHaveLength(1);
    expect(calls[0]).toBeLessThan(3);
  });

  it('tell of a hang-up once when nothing is asked for', async () => {
    const reactor = strict();
    const sockets = createLinuxSockets();
    const listener = sockets.listen(LOOPBACK);
    const client = sockets.connect(listener.local);
    const server = listener.accept()!.stream;
    const seen: number[] = [];
    const watch = reactor.watch(client.fd, 0, (ready) => seen.push(ready));
    server.abort();
    reactor.at(later(reactor.readClock(), Millis(5)), () => {
      watch.interest(READABLE);
    });
    reactor.at(later(reactor.readClock(), Millis(10)), () => reactor.stop());
    reactor.onTurn(() => {
      if (seen.length > 1) watch.close();
      return undefined;
    });
    await reactor.run();
    client.close();
    listener.close();
    expect(seen[0]).toBe(BROKEN);
    expect(seen[1]! & (BROKEN | READABLE)).toBe(BROKEN | READABLE);
    expect(seen).toHaveLength(2);
  });

  it('refuse a descriptor that cannot be watched', () => {
    const reactor = strict();
    expect(() => reactor.watch(9_999, READABLE, () => undefined)).toThrow(
      expect.objectContaining({ code: 'WATCH_FAILED', kind: 'environment' }),
    );
    reactor.dispose();
  });

  it('of a loop that has ended do not touch another loop that got its descriptor', async () => {
    const socket = alwaysReady();
    const old = strict();
    const stale = old.watch(socket.fd, READABLE, () => undefined);
    old.dispose();
    const reactor = strict();
    let called = false;
    const watch = reactor.watch(socket.fd, READABLE, () => {
      called = true;
      reactor.stop();
    });
    stale.close();
    reactor.at(later(reactor.readClock(), Millis(20)), () => reactor.stop());
    await reactor.run();
    watch.close();
    socket.close();
    expect(called).toBe(true);
  });

  it('may be closed after the loop has ended', async () => {
    const reactor = strict();
    const socket = openUdp(LOOPBACK);
    const watch = reactor.watch(socket.fd, READABLE, () => undefined);
    reactor.stop();
    await reactor.run();
    watch.close();
    reactor.stop();
    reactor.wake();
    socket.close();
  });
});

describe('the loop', () => {
  it('goes on after a handler, a timer and a hook have thrown, and reports without flooding', async () => {
    const errors: string[] = [];
    const reactor = createReactor({ onError: (error) => errors.push((error as Error).message) });
    const socket = alwaysReady();
    let turns = 0;
    const watch = reactor.watch(socket.fd, READABLE, () => {
      throw new Error('handler');
    });
    reactor.at(instantAt(0), () => {
      throw new Error('timer');
    });
    reactor.onTurn(() => {
      if (++turns === 1000) reactor.stop();
      if (turns === 1) throw new Error('hook');
      return undefined;
    });
    await reactor.run();
    watch.close();
    socket.close();
    expect(turns).toBeGreaterThanOrEqual(1000);
    expect(errors.slice(0, 3)).toEqual(['handler', 'timer', 'hook']);
    expect(errors.length).toBeLessThan(50);
  });

  it('lets promises and immediates run while there is always something to do', async () => {
    const reactor = strict();
    const socket = alwaysReady();
    const watch = reactor.watch(socket.fd, READABLE, () => undefined);
    let immediates = 0;
    let promises = 0;
    const again = (): void => {
      immediates++;
      void Promise.resolve().then(() => promises++);
      if (reactor.turns < 2_000) setImmediate(again);
      else reactor.stop();
    };
    setImmediate(again);
    await reactor.run();
    watch.close();
    socket.close();
    // Back to libuv at least every 64 turns, or 2000 turns would see fewer than 30 of each.
    expect(immediates).toBeGreaterThan(30);
    expect(promises).toBe(immediates);
  });

  it('makes a turn without waiting after libuv ran, so that what changed there takes effect', async () => {
    const reactor = strict();
    let wanted: Instant | undefined;
    let hooks = 0;
    reactor.onTurn((now) => {
      hooks++;
      if (wanted !== undefined && now >= wanted) reactor.stop();
      return wanted;
    });
    const done = reactor.run();
    await new Promise((resolve) => setImmediate(resolve));
    while (hooks === 0) await new Promise((resolve) => setImmediate(resolve));
    wanted = later(reactor.readClock(), Millis(1));
    await done;
    expect(reactor.now()).toBeGreaterThanOrEqual(wanted);
  });

  it('stops under load, from a handler', async () => {
    const reactor = strict();
    const socket = alwaysReady();
    let calls = 0;
    const watch = reactor.watch(socket.fd, READABLE, () => {
      if (++calls === 100) reactor.stop();
    });
    await reactor.run();
    watch.close();
    socket.close();
    expect(calls).toBeGreaterThanOrEqual(100);
    expect(calls).toBeLessThan(200);
  });

  it('wakes when another thread rings, and delivers its messages', async () => {
    const wakeFd = makeWakeFd();
    const control = new Int32Array(new SharedArrayBuffer(CONTROL_CELLS * 4));
    const reactor = createReactor({ onError: (error) => expect.unreachable(String(error)), wakeFd, control });
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const { writeSync } = require('node:fs');
       parentPort.on('message', (n) => {
         parentPort.postMessage(n + 1);
         writeSync(workerData, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
       });`,
      { eval: true, workerData: wakeFd },
    );
    const heard: number[] = [];
    const ended = new Promise((resolve) => worker.on('exit', resolve));
    worker.on('message', (n: number) => {
      heard.push(n);
      if (n < 20) worker.postMessage(n);
      else reactor.stop();
    });
    worker.postMessage(0);
    await reactor.run();
    expect(heard).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(Atomics.load(control, HEARTBEAT_CELL)).toBe(reactor.turns);
    await worker.terminate();
    await ended;
    close(wakeFd);
  });

  it('ends when the stop cell is set', async () => {
    const wakeFd = makeWakeFd();
    const control = new Int32Array(new SharedArrayBuffer(CONTROL_CELLS * 4));
    const reactor = createReactor({ onError: (error) => expect.unreachable(String(error)), wakeFd, control });
    const done = reactor.run();
    Atomics.store(control, STOP_CELL, 1);
    writeSync(wakeFd, BELL);
    await done;
    close(wakeFd);
  });

  it('runs only once', async () => {
    const reactor = strict();
    reactor.stop();
    await reactor.run();
    expect(() => reactor.run()).toThrow(expect.objectContaining({ code: 'REACTOR_USED' }));
  });

  it('moves a megabyte between two watched sockets unharmed', async () => {
    const reactor = strict();
    const sockets = createLinuxSockets();
    const listener = sockets.listen(LOOPBACK);
    const data = new Uint8Array(1 << 20).map((_, i) => i * 7 + (i >>> 9));
    const client = sockets.connect(listener.local);
    const hash = createHash('sha256');
    let sent = 0;
    let got = 0;
    const sending = reactor.watch(client.fd, WRITABLE, () => {
      const n = client.write(data, sent, data.length - sent);
      if (n > 0) sent += n;
      if (sent === data.length) {
        sending.close();
        client.shutdownWrite();
      }
    });
    const listening = reactor.watch(listener.fd, READABLE, () => {
      const { stream } = listener.accept()!;
      const buffer = new Uint8Array(100_000);
      const receiving = reactor.watch(stream.fd, READABLE, () => {
        const n = stream.read(buffer, 5, buffer.length - 5);
        if (n > 0) {
          hash.update(buffer.subarray(5, 5 + n));
          got += n;
        } else if (n === 0) {
          receiving.close();
          stream.close();
          reactor.stop();
        }
      });
    });
    await reactor.run();
    listening.close();
    listener.close();
    client.close();
    expect(got).toBe(data.length);
    expect(hash.digest('hex')).toBe(createHash('sha256').update(data).digest('hex'));
  });
});
