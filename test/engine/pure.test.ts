/** The engine in a bare JavaScript context: nothing of Node, nothing of a browser; only ECMAScript. */
import vm from 'node:vm';
import { expect, test } from 'vitest';
import { loadBare } from '../support/bare-context.js';

test('loads, runs and answers in a context that has nothing but the language', () => {
  const { context, exports, refused, modules } = loadBare('src/engine/index.ts');
  expect(refused).toEqual([]);
  expect(modules).toBeGreaterThan(60);
  Object.assign(context, exports);
  const result: unknown = vm.runInContext(
    `
    let now = 1e6;
    let queue = [];
    const out = [];
    const dials = [];
    const zero = (n) => new Uint8Array(n);
    const engine = new Engine({
      device: { packets: (packets, families) => packets.forEach((p, i) => out.push([families[i], p[20], p.length])) },
      dialers: { mock: { dial: (r) => dials.push(r.protocol + ' ' + r.destination), send: () => true, end() {}, close() {}, pause() {}, resume() {} } },
      platform: {
        now: () => now,
        schedule: (ms, callback) => { const one = { at: now + ms * 1000, callback }; queue.push(one); return () => { queue = queue.filter((o) => o !== one); }; },
        entropy: { fill: (b) => b.fill(4), uint32: () => 4 },
        crypto: { hmacSha256: () => zero(32) },
      },
    });
    engine.start();
    const echo = Uint8Array.of(0x45,0,0,28, 0,0,0,0, 64,1,0,0, 10,83,0,1, 1,2,3,4, 8,0,0xf7,0xfd, 0,1,0,1);
    const sum = (b, from, to) => { let s = 0; for (let i = from; i < to; i += 2) s += b[i] * 256 + b[i + 1]; while (s > 65535) s = (s & 65535) + (s >>> 16); return ~s & 65535; };
    const h = sum(echo, 0, 20); echo[10] = h >> 8; echo[11] = h;
    engine.packets([echo]);
    for (let i = 0; i < 20 && queue.length > 0; i++) { const one = queue.shift(); now = Math.max(now, one.at); one.callback(); }
    engine.stop();
    JSON.stringify({ out, dials, left: queue.length, echoes: engine.snapshot().values.echo_requests });
    `,
    context,
  );
  expect(JSON.parse(result as string)).toEqual({ out: [[4, 0, 28]], dials: [], left: 0, echoes: 1 });
});
