/** `sallyport/netstack` in a bare JavaScript context, by the very example of docs/netstack.md. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import vm from 'node:vm';
import { expect, test } from 'vitest';
import { REPOSITORY } from '../lab/services.js';
import { loadBare, transpile } from '../support/bare-context.js';

const EXAMPLE = readFileSync(join(REPOSITORY, 'docs/netstack.md'), 'utf8').match(/```ts\n(.*?)```/s)?.[1] ?? '';

test('the example of the documentation echoes what a client sends, over IPv4 and IPv6', () => {
  const { context, exports, refused } = loadBare('src/netstack/index.ts');
  expect(refused).toEqual([]);
  Object.assign(context, { netstack: exports, imported: [] });
  const program = `
    const require = (name) => { imported.push(name); return netstack; };
    const { Arena, IpAddress, Packetizer, SocketAddress, Stack, instantAt } = netstack;
    let seed = 0;
    const entropy = { fill: (bytes) => bytes.fill(++seed), uint32: () => ++seed };
    const crypto = { hmacSha256: () => new Uint8Array(32).fill(++seed) };
    const toClient = [];
    const device = { write: (packet) => toClient.push(packet.slice()) };
    const echo = (() => { const exports = {}; ${transpile(EXAMPLE)}; return { turn, stack }; })();
    const toEcho = [];
    const out = new Packetizer(new Arena(1 << 18), 256, (batch) => {
      for (let i = 0; i < batch.count; i++) {
        const at = batch.table[2 * i];
        toEcho.push(batch.arena.bytes.slice(at, at + batch.table[2 * i + 1]));
      }
    });
    const client = new Stack({ mtu: 1500, sink: out, handlers: {}, entropy, crypto,
      localV4: IpAddress.parse('10.0.0.1'), localV6: IpAddress.parse('fd00::1') });
    const arena = new Arena(65536);
    const results = [];
    for (const to of ['10.0.0.2:7', '[fd00::2]:7']) {
      const got = [];
      let closed = '';
      let now = 1e6;
      const connection = client.connect(instantAt(now), SocketAddress.parse(to), {
        onConnected() { connection.write(Uint8Array.of(1, 2, 3), 0, 3); connection.shutdownWrite(); },
        onData(bytes, offset, length) { got.push(...bytes.slice(offset, offset + length)); return length; },
        onClosed(reason) { closed = reason; },
      });
      for (let round = 0; round < 400; round++) {
        now += 10000;
        for (const packet of toClient.splice(0)) { arena.bytes.set(packet); client.handlePacket(instantAt(now), arena, 0, packet.length); }
        if ((client.pollTimeout() ?? Infinity) <= now) client.handleTimeout(instantAt(now));
        client.flush(instantAt(now));
        out.flush();
        echo.turn(instantAt(now), toEcho.splice(0));
      }
      results.push({ to, got, closed, left: echo.stack.flows });
    }
    JSON.stringify({ results, imported });
  `;
  const told: unknown = JSON.parse(vm.runInContext(program, context) as string);
  expect(told).toEqual({
    results: ['10.0.0.2:7', '[fd00::2]:7'].map((to) => ({ to, got: [1, 2, 3], closed: 'finished', left: 0 })),
    imported: ['sallyport/netstack'],
  });
});
