import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Transpiled, transpileSources } from '../../os/transpile.js';
import { ip, Namespaces } from './netns.js';

const namespaces = new Namespaces();
let built: Transpiled;
let runs = 0;

beforeAll(() => {
  built = transpileSources();
});
afterAll(() => built.remove());
afterEach(() => namespaces.removeAll());

/** Runs statements over the Linux backend in a namespace; what `out` is given comes back. */
async function inside(space: string, statements: string): Promise<unknown> {
  const script = built.add(
    `sockets-${runs++}.js`,
    `import { createLinuxSockets, createReactor } from './os/linux/linux.js';
     import { IpAddress, SocketAddress, ADDRESS_WORDS } from './base/address.js';
     const sockets = createLinuxSockets();
     const address = (text) => SocketAddress.parse(text);
     const packed = (text) => { const words = new Uint32Array(ADDRESS_WORDS); address(text).write(words, 0); return words; };
     const failure = (act) => { try { act(); return 'none'; } catch (e) { return [e.kind, e.code]; } };
     let result = null;
     const out = (value) => { result = value ?? null; };
     ${statements}
     console.log(JSON.stringify(result));`,
  );
  return namespaces.spawn(space, process.execPath, script.pathname).json();
}

/** A namespace with a link of MTU 1400 to another one. */
function linked(): { a: string; b: string } {
  const a = namespaces.create();
  const b = namespaces.create();
  ip(
    '-n',
    a,
    'link',
    'add',
    'ox-p0',
    'mtu',
    '1400',
    'type',
    'veth',
    'peer',
    'name',
    'ox-p1',
    'mtu',
    '1400',
    'netns',
    b,
  );
  ip('-n', a, 'address', 'add', '10.66.0.1/24', 'dev', 'ox-p0');
  ip('-n', b, 'address', 'add', '10.66.0.2/24', 'dev', 'ox-p1');
  ip('-n', a, 'address', 'add', 'fd66::1/64', 'dev', 'ox-p0', 'nodad');
  ip('-n', b, 'address', 'add', 'fd66::2/64', 'dev', 'ox-p1', 'nodad');
  ip('-n', a, 'link', 'set', 'ox-p0', 'up');
  ip('-n', b, 'link', 'set', 'ox-p1', 'up');
  return { a, b };
}

describe('UDP', () => {
  it('without a route drops only what has none', async () => {
    expect(
      await inside(
        namespaces.create(),
        `const receiver = sockets.udp(address('127.0.0.1:0'));
         const sender = sockets.udp(address('0.0.0.0:0'));
         const memory = sender.registerTransmit(new Uint8Array(3000));
         const near = packed(String(receiver.local));
         sender.send(memory, 0, 100, 100, near, 0);
         sender.send(memory, 0, 3000, 1000, packed('192.0.2.1:9'), 0);
         sender.send(memory, 0, 200, 200, near, 0);
         sender.flush();
         const six = sockets.udp(address('[::]:0'));
         six.send(six.registerTransmit(new Uint8Array(9)), 0, 9, 9, packed('[2001:db8::1]:9'), 0);
         six.flush();
         out([receiver.receive(), [...receiver.rx.lengths.subarray(0, 2)], sender.counters.sendFailed, six.counters.sendFailed,
              failure(() => sockets.udpFlow(address('192.0.2.1:9')))]);`,
      ),
    ).toEqual([2, [100, 200], 3, 1, ['environment', 'SOCKET_FAILED']]);
  });

  it.each(['127.0.0.1', '[::1]'])(
    'of flows and ports: what the link does not carry whole goes as fragments (%s)',
    async (host) => {
      const space = namespaces.create();
      ip('-n', space, 'link', 'set', 'lo', 'mtu', '1400');
      const sizes = [1300, 1300, 1390, 1390, 1390, 40, 1300, 1300];
      const seen = await inside(
        space,
        `const receiver = sockets.udp(address('${host}:0'), { offload: false, batch: 64 });
       const to = packed(String(receiver.local));
       const [flow, port] = [sockets.udpFlow(receiver.local), sockets.udpPort(receiver.local.ip.family)];
       const bytes = new Uint8Array(1400);
       const sizes = ${JSON.stringify(sizes)};
       const results = [];
       for (const size of sizes) results.push(flow.write(bytes, 0, size));
       sockets.flushDatagrams();
       for (const size of sizes) results.push(port.sendTo(to, 0, bytes, 0, size));
       sockets.flushDatagrams();
       const count = receiver.receive();
       out([results, [...receiver.rx.lengths.subarray(0, count)]]);`,
      );
      expect(seen).toEqual([
        [...sizes, ...sizes],
        [...sizes, ...sizes],
      ]);
    },
  );

  it('is never fragmented: what the link does not take is dropped and counted, one by one or as a run', async () => {
    const { a } = linked();
    expect(
      await inside(
        a,
        `const results = [];
         for (const [local, to, fits] of [['10.66.0.1:0', '10.66.0.2:9', 1372], ['[fd66::1]:0', '[fd66::2]:9', 1352]]) {
           const socket = sockets.udp(address(local));
           const memory = socket.registerTransmit(new Uint8Array(20000));
           const words = packed(to);
           socket.send(memory, 0, fits, fits, words, 0);
           socket.send(memory, 0, fits + 1, fits + 1, words, 0);
           socket.send(memory, 0, 4 * fits, fits, words, 0);
           socket.send(memory, 0, 4 * fits, fits + 1, words, 0);
           socket.flush();
           results.push([socket.capabilities.dontFragment, socket.counters.datagramsOut, socket.counters.sendFailed]);
         }
         out(results);`,
      ),
    ).toEqual([
      [true, 5, 5],
      [true, 5, 5],
    ]);
  });

  it('gives up within one flush what a full send buffer does not take, and sends again when there is room', async () => {
    const { a } = linked();
    execFileSync('ip', [
      ...['netns', 'exec', a, 'tc', 'qdisc', 'add', 'dev', 'ox-p0', 'root'],
      ...['tbf', 'rate', '10mbit', 'burst', '3k', 'limit', '10mb'],
    ]);
    expect(
      await inside(
        a,
        `const socket = sockets.udp(address('10.66.0.1:0'), { bufferBytes: 20000 });
         const memory = socket.registerTransmit(new Uint8Array(1300));
         const words = packed('10.66.0.2:9');
         const send = (count) => { for (let i = 0; i < count; i++) socket.send(memory, 0, 1300, 1300, words, 0); socket.flush(); };
         send(200);
         const { datagramsOut, sendBlocked, sendFailed } = socket.counters;
         // Room comes back at the rate of the link; the reactor tells when.
         const reactor = createReactor({ onError: (e) => { throw e; } });
         const watch = reactor.watch(socket.fd, 2, () => { watch.close(); reactor.stop(); });
         await reactor.run();
         send(1);
         out([datagramsOut + sendBlocked, datagramsOut > 0, sendBlocked > 0, sendFailed, socket.counters.datagramsOut - datagramsOut]);`,
      ),
    ).toEqual([200, true, true, 0, 1]);
  });

  it('keeps what a full send buffer does not take, sends it when WRITABLE says so, and loses nothing', async () => {
    const { a } = linked();
    execFileSync('ip', [
      ...['netns', 'exec', a, 'tc', 'qdisc', 'add', 'dev', 'ox-p0', 'root'],
      ...['tbf', 'rate', '10mbit', 'burst', '3k', 'limit', '10mb'],
    ]);
    expect(
      await inside(
        a,
        `const socket = sockets.udp(address('10.66.0.1:0'), { keepsUnsent: true });
         socket.setSendRoom(20000);
         const memory = socket.registerTransmit(new Uint8Array(1300));
         const words = packed('10.66.0.2:9');
         const reactor = createReactor({ onError: (e) => { throw e; } });
         let left = 200;
         let blocks = 0;
         const send = () => {
           socket.flush(false);
           while (!socket.isBlocked && left > 0) {
             socket.send(memory, 0, 1300, 1300, words, 0);
             left--;
             socket.flush(false);
           }
           if (socket.isBlocked) blocks++;
           else { watch.close(); reactor.stop(); }
         };
         const watch = reactor.watch(socket.fd, 2, send);
         const began = reactor.readClock();
         await reactor.run();
         const { datagramsOut, sendBlocked, sendFailed } = socket.counters;
         out([datagramsOut, sendBlocked, sendFailed, blocks > 10, reactor.readClock() - began > 100000]);`,
      ),
    ).toEqual([200, 0, 0, true, true]);
  });
});

describe('ICMP echo', () => {
  const ASK = `
    const ask = async (family, to) => {
      const socket = sockets.echo(family);
      const data = new Uint8Array(1000).map((_, i) => i * 3);
      const sent = socket.send(address(to), 0xabcd, data, 5, 900);
      const reactor = createReactor({ onError: (e) => { throw e; } });
      let answer = [];
      const watch = reactor.watch(socket.fd, 1, () => {
        const target = new Uint8Array(2000);
        const length = socket.read(target, 7, 1500);
        const same = target.subarray(7, 907).every((byte, i) => byte === data[i + 5]);
        answer = [sent, length, same, socket.lastSequence, String(socket.lastSource.ip), socket.read(target, 0, 1500)];
        watch.close();
        reactor.stop();
      });
      await reactor.run();
      socket.close();
      return answer;
    };`;

  it('is answered by the host itself and by a neighbour, in both families', async () => {
    const { a } = linked();
    execFileSync('ip', ['netns', 'exec', a, 'sysctl', '-qw', 'net.ipv4.ping_group_range=0 0']);
    const expected = (address: string): unknown[] => [900, 900, true, 0xabcd, address, -11];
    expect(
      await inside(
        a,
        `${ASK} out([await ask(4, '127.0.0.1:0'), await ask(6, '[::1]:0'), await ask(4, '10.66.0.2:0'), await ask(6, '[fd66::2]:0')]);`,
      ),
    ).toEqual([expected('127.0.0.1'), expected('::1'), expected('10.66.0.2'), expected('fd66::2')]);
  });

  it('says how to permit it where it is not', async () => {
    const space = namespaces.create();
    execFileSync('ip', ['netns', 'exec', space, 'sysctl', '-qw', 'net.ipv4.ping_group_range=1 0']);
    const refused = ['environment', 'ICMP_NOT_PERMITTED'];
    expect(await inside(space, 'out([failure(() => sockets.echo(4)), failure(() => sockets.echo(6))]);')).toEqual([
      refused,
      refused,
    ]);
  });

  it('reports an unreachable network', async () => {
    const space = namespaces.create();
    execFileSync('ip', ['netns', 'exec', space, 'sysctl', '-qw', 'net.ipv4.ping_group_range=0 0']);
    expect(
      await inside(space, `out(sockets.echo(4).send(address('192.0.2.1:0'), 1, new Uint8Array(10), 0, 10));`),
    ).toBe(-101);
  });
});

describe('TCP', () => {
  it('without a route fails like any other attempt, through connectResult', async () => {
    expect(
      await inside(
        namespaces.create(),
        `const stream = sockets.connect(address('192.0.2.1:80'));
         const reactor = createReactor({ onError: (e) => { throw e; } });
         const watch = reactor.watch(stream.fd, 2, () => { out(stream.connectResult()); watch.close(); reactor.stop(); });
         await reactor.run();`,
      ),
    ).toBe(-101);
  });

  it('refuses what it has no descriptors for, and accepts again afterwards', async () => {
    expect(
      await inside(
        namespaces.create(),
        `import { openSync, closeSync } from 'node:fs';
         import koffi from 'koffi';
         const listener = sockets.listen(address('127.0.0.1:0'));
         const client = sockets.connect(listener.local);
         const setrlimit = koffi.load('libc.so.6').func('int setrlimit(int, uint64_t*)');
         setrlimit(7, [64, 4096]);
         const held = [];
         try { for (;;) held.push(openSync('/dev/null')); } catch {}
         const none = listener.accept();
         const end = client.read(new Uint8Array(1), 0, 1);
         for (const fd of held) closeSync(fd);
         const second = sockets.connect(listener.local);
         out([none === undefined, end, listener.accept() !== undefined]);`,
      ),
    ).toEqual([true, 0, true]);
  });
});
