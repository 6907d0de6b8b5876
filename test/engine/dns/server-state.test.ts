/** What is known about one name server: how long it comes last, what ends that, and what is counted of its connections. */
import { expect, test } from 'vitest';
import { instantAt, later, Millis, Seconds } from '../../../src/base/time.js';
import { ServerState } from '../../../src/engine/dns/server-state.js';
import type { DnsStreamHandlers } from '../../../src/engine/dns/transport.js';
import { parseDnsServer } from '../../../src/engine/dns/upstream.js';
import { DnsWorld, query } from './world.js';

function stateOf(text: string) {
  const world = new DnsWorld();
  const opened: DnsStreamHandlers[] = [];
  const heads: string[] = [];
  const dialer = {
    ...world.dialer,
    tls: (_to: unknown, _name: string, _protocols: readonly string[], handlers: DnsStreamHandlers) => {
      opened.push(handlers);
      return { write: (bytes: Uint8Array) => void heads.push(Buffer.from(bytes).toString('latin1')), close: () => {} };
    },
  };
  return { world, opened, heads, state: new ServerState(parseDnsServer(text), dialer, parts(world)) };
}
const parts = (world: DnsWorld) => ({ timers: world, entropy: world.entropy, counters: world.counters });

test('one that does not answer comes last for 1, 2, 4 … 60 s, until it answers or the network is another', () => {
  const { state } = stateOf('10.0.0.53');
  let now = instantAt(0);
  const fails = (seconds: number): void => {
    state.onFailure(now);
    expect(state.isBackingOff(later(now, Seconds(seconds - 0.001)))).toBe(true);
    now = later(now, Seconds(seconds));
    expect(state.isBackingOff(now)).toBe(false);
  };
  for (const seconds of [1, 2, 4, 8, 16, 32, 60, 60]) fails(seconds);
  state.onFailure(now);
  state.onAnswer();
  expect(state.isBackingOff(now)).toBe(false);
  for (const seconds of [1, 2]) fails(seconds);
  state.onFailure(now);
  state.reset();
  expect(state.isBackingOff(now)).toBe(false);
  fails(1);
});

test.each([
  ['https://[fd00::53]/q', 'host: [fd00::53]'],
  ['https://10.0.0.53/q#dns.example', 'host: dns.example'],
])('%s is asked with the header %s', (text, header) => {
  const { world, opened, heads, state } = stateOf(text);
  const asked = query('www.example', 'A');
  state.stream().ask(asked, asked.length, () => {});
  world.run(Millis(1));
  opened[0]!.onOpen();
  expect(heads[0]).toContain(`\r\n${header}\r\n`);
});

test('a connection counts once: opened, or not; its end is no failure', () => {
  const { world, opened, state } = stateOf('tls://10.0.0.53#dns.example');
  const counts = () => ['opened', 'failed', 'untrusted'].map((what) => world.counters.get(`dns_tls_${what}` as never));
  const asked = query('www.example', 'A');
  const ask = () => state.stream().ask(asked, asked.length, () => {});
  ask();
  opened[0]!.onOpen();
  opened[0]!.onClosed();
  expect(counts()).toEqual([1, 0, 0]);
  world.run(Millis(1));
  ask();
  opened[1]!.onClosed();
  world.run(Millis(1));
  ask();
  opened[2]!.onClosed('untrusted');
  expect(counts()).toEqual([1, 1, 1]);
});
