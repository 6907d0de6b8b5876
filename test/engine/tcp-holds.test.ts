/** TCP flows whose name a rule may refuse: none of their bytes leaves before it is known, and every byte passes in order if it may. */
import { expect, test } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { Millis, Seconds } from '../../src/base/time.js';
import type { FlowDecision, FlowRequest } from '../../src/engine/hooks.js';
import { clientHello, type HelloShape, join, records } from './names/hellos.js';
import { type MockClient, type MockConnection, MockHost } from './replay/mock-host.js';

const WEB = '93.184.216.34:443';
const WEB6 = '[2606:2800:220:1::1]:443';
const BAD = 'bad.example';
const refuseBad = { rules: [`reject host=${BAD}`] };
const ends = ['decided', 'refused', 'gave_up', 'flow_ended'];
const hello = (shape: HelloShape, size?: number): Uint8Array => records(clientHello(shape), size);
const bad = hello({ name: BAD });
const good = hello({ name: 'good.example' });
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

class Play {
  readonly host: MockHost;
  readonly client: MockClient;
  readonly far: MockConnection;

  constructor(more: ConstructorParameters<typeof MockHost>[0] = refuseBad, to = WEB) {
    this.host = new MockHost(more);
    ({ client: this.client, host: this.far } = this.host.open(to));
  }

  /** The program writes; what that causes happens within a millisecond. */
  say(bytes: Uint8Array): void {
    expect(this.client.connection.write(bytes, 0, bytes.length)).toBe(bytes.length);
    this.host.run(Millis(1));
  }

  get holds(): number[] {
    return ends.map((end) => this.host.values[`tcp_holds{end=${end}}`]!);
  }

  /** Everything that the server has of the flow. */
  get sent(): Uint8Array {
    return Uint8Array.from(Buffer.concat(this.far.received));
  }

  /** How the flow stands: bytes at the server, its end of the stream there, its end and the program's. */
  get state(): unknown[] {
    return [this.far.bytes, this.far.ended, this.far.closed, this.client.closed];
  }
}

const LIVE = [0, false, undefined, undefined];
const REFUSED = [0, false, 'aborted', 'reset'];

test.each([
  ['IPv4, reject', WEB, 'reject host=bad.example'],
  ['IPv6, reject', WEB6, 'reject suffix=example'],
  ['IPv4, block', WEB, 'block host=bad.example'],
  ['IPv6, block, one port', WEB6, 'block suffix=bad.example port=443 protocol=tcp'],
])('of a name that is refused nothing leaves (%s)', (_name, to, rule) => {
  const play = new Play({ rules: [rule] }, to);
  play.say(bad);
  expect([play.state, play.holds]).toEqual([REFUSED, [0, 1, 0, 0]]);
  expect(play.host.values['flows_active{protocol=tcp}']).toBe(0);
  play.host.run(Seconds(10));
  expect(play.holds).toEqual([0, 1, 0, 0]);
});

test('of a name that is refused nothing leaves, wherever its bytes are cut and whatever comes with them', () => {
  const message = clientHello({ name: BAD, keyShare: 1700 });
  for (const stream of [records(message), records(message, 700), records(message, 9), join(bad, bytesOf('early'))]) {
    for (const cut of [1, 2, 5, 6, 9, 10, 700, 705, 706, stream.length - 1]) {
      if (cut >= stream.length) continue;
      const play = new Play();
      play.say(stream.subarray(0, cut));
      const isWhole = play.client.closed !== undefined;
      expect([play.state, cut]).toEqual([isWhole ? REFUSED : LIVE, cut]);
      if (isWhole) continue;
      play.say(stream.subarray(cut));
      expect([play.state, play.holds, cut]).toEqual([REFUSED, [0, 1, 0, 0], cut]);
    }
  }
});

test('a name that is allowed goes its way as soon as it is known, byte for byte, in any pieces', () => {
  const entropy = new SeededEntropy(3);
  for (let round = 0; round < 60; round++) {
    const size = 1 + (entropy.uint32() % 900);
    const early = Uint8Array.from({ length: entropy.uint32() % 5000 }, (_, i) => i & 255);
    const stream = join(hello({ name: 'good.example', keyShare: entropy.uint32() % 3000 }, size), early);
    const play = new Play();
    for (let at = 0; at < stream.length; ) {
      const n = Math.min(1 + (entropy.uint32() % 1500), stream.length - at);
      play.say(stream.subarray(at, at + n));
      at += n;
    }
    expect(Buffer.compare(play.sent, stream)).toBe(0);
    play.say(bytesOf('later'));
    play.client.connection.shutdownWrite();
    play.host.run(Millis(1));
    expect(play.state).toEqual([stream.length + 5, true, undefined, undefined]);
    expect(play.holds.slice(1)).toEqual([0, 0, 0]);
  }
});

test('a ClientHello in one piece that is allowed waits for nothing, in two pieces it waits for the second', () => {
  const one = new Play();
  one.say(good);
  expect([one.far.bytes, one.holds]).toEqual([good.length, [0, 0, 0, 0]]);
  const two = new Play();
  two.say(good.subarray(0, 20));
  expect(two.state).toEqual(LIVE);
  two.host.run(Seconds(4));
  expect(two.state).toEqual(LIVE);
  two.say(good.subarray(20));
  expect([two.far.bytes, two.holds]).toEqual([good.length, [1, 0, 0, 0]]);
  two.host.run(Seconds(10));
  expect([two.far.bytes, two.holds]).toEqual([good.length, [1, 0, 0, 0]]);
});

test.each([
  ['plain text', bytesOf('GET / HTTP/1.1\r\n')],
  ['one byte', bytesOf('x')],
  ['an alert', Uint8Array.of(21, 3, 1, 0, 2, 1, 0)],
  ['another version of records', Uint8Array.of(22, 9)],
  ['another handshake message', Uint8Array.of(22, 3, 1, 0, 5, 2)],
  ['a record that is empty', Uint8Array.of(22, 3, 1, 0, 0)],
  ['a ClientHello without a name', hello({})],
])('what is no TLS, or names nothing, waits for nothing: %s', (_name, bytes) => {
  const play = new Play();
  play.say(bytes);
  expect([play.sent, play.holds]).toEqual([bytes, [0, 0, 0, 0]]);
});

test('who is silent holds nothing, and what the server says first, or meanwhile, passes at once', () => {
  const play = new Play();
  play.host.run(Seconds(20));
  play.host.reply(play.far, '220 ready');
  play.host.run(Millis(1));
  expect(Buffer.from(play.client.data).toString()).toBe('220 ready');
  play.say(bad.subarray(0, 30));
  play.host.reply(play.far, ' and waiting');
  play.host.engine.ended(play.far.id);
  play.host.run(Millis(1));
  expect([Buffer.from(play.client.data).toString(), play.client.peerClosed]).toEqual(['220 ready and waiting', true]);
  expect(play.state).toEqual(LIVE);
  play.say(bad.subarray(30));
  expect([play.state, play.holds]).toEqual([REFUSED, [0, 1, 0, 0]]);
});

test('without the rest of the name it waits 5 s from its first byte; a name that comes later ends the flow', () => {
  const play = new Play();
  play.host.run(Seconds(20));
  play.say(bad.subarray(0, 30));
  play.host.run(Seconds(3));
  play.say(bad.subarray(30, 40));
  play.host.run(Millis(1997));
  expect(play.state).toEqual(LIVE);
  play.host.run(Millis(2));
  expect([play.sent, play.holds]).toEqual([bad.subarray(0, 40), [0, 0, 1, 0]]);
  play.say(bad.subarray(40));
  expect([play.client.closed, play.holds]).toEqual(['reset', [0, 0, 1, 0]]);
});

test.each(['server', 'mobile'] as const)('12 KiB of a flow wait; with one more all of it goes on (%s)', (preset) => {
  const play = new Play({ ...refuseBad, preset });
  const stream = hello({ name: BAD, keyShare: 20_000 });
  play.say(stream.subarray(0, 12 * 1024 - 1));
  expect(play.state).toEqual(LIVE);
  play.say(stream.subarray(12 * 1024 - 1, 12 * 1024));
  expect([play.sent, play.holds]).toEqual([stream.subarray(0, 12 * 1024), [0, 0, 1, 0]]);
  play.say(stream.subarray(12 * 1024));
  play.host.run(Millis(50));
  expect([play.client.closed, play.holds]).toEqual(['reset', [0, 0, 1, 0]]);
});

test('the limit is on what waits for its name: what came behind a whole one, and the end of the stream, change nothing', () => {
  const play = new Play();
  play.client.connection.write(join(bad, new Uint8Array(40_000)), 0, bad.length + 40_000);
  play.client.connection.shutdownWrite();
  play.host.run(Millis(20));
  expect([play.state, play.holds]).toEqual([REFUSED, [0, 1, 0, 0]]);
});

test('an end of the stream lets the bytes go on that no name can follow, and comes behind them', () => {
  for (const isLater of [false, true]) {
    const play = new Play();
    const part = bad.subarray(0, 60);
    play.client.connection.write(part, 0, part.length);
    if (isLater) play.host.run(Millis(1));
    play.client.connection.shutdownWrite();
    play.host.run(Millis(1));
    expect([play.sent, play.state, play.holds]).toEqual([part, [60, true, undefined, undefined], [0, 0, 1, 0]]);
    play.host.reply(play.far, 'bye');
    play.host.engine.ended(play.far.id);
    play.host.engine.closed(play.far.id, 'finished');
    play.host.run(Millis(10));
    expect([Buffer.from(play.client.data).toString(), play.client.closed]).toEqual(['bye', 'finished']);
  }
});

test('a reset of either end takes what waits with it, and leaves no timer', () => {
  const program = new Play();
  program.say(bad.subarray(0, 30));
  program.say(bad.subarray(30, 40));
  program.client.connection.abort();
  program.host.run(Millis(1));
  expect([program.state, program.holds]).toEqual([
    [0, false, 'aborted', 'aborted'],
    [0, 0, 0, 1],
  ]);
  const server = new Play();
  server.say(bad.subarray(0, 30));
  server.host.engine.closed(server.far.id, 'error');
  server.host.run(Millis(1));
  expect([server.far.bytes, server.client.closed, server.holds]).toEqual([0, 'reset', [0, 0, 0, 1]]);
  for (const { host } of [program, server]) {
    host.run(Millis(10));
    expect(host.scheduled).toBe(0);
    host.run(Seconds(6));
    expect([host.values['tcp_holds{end=gave_up}'], host.values['flows_active{protocol=tcp}']]).toEqual([0, 0]);
  }
});

test('the name in front of an encrypted ClientHello is no name, unless the address was answered for it', () => {
  const outer = hello({ name: BAD, encrypted: true });
  const play = new Play();
  play.say(outer);
  expect([play.sent, play.holds]).toEqual([outer, [0, 0, 0, 0]]);
  expect(play.host.engine.flows()[0]!.name).toBe(`${BAD} (outer)`);
  const known = new Play();
  known.host.engine.names.record(BAD, ['93.184.216.34']);
  known.say(outer);
  expect([known.state, known.holds]).toEqual([REFUSED, [0, 1, 0, 0]]);
});

test('a flow whose address has a name waits for its own', () => {
  const host = new MockHost(refuseBad);
  host.engine.names.record('good.example', ['93.184.216.34']);
  const { client, host: far } = host.open(WEB);
  client.connection.write(bad, 0, bad.length);
  host.run(Millis(1));
  expect([far.bytes, client.closed]).toEqual([0, 'reset']);
});

test('a name decides how what waited is held back', () => {
  const play = new Play({ rules: ['shape host=slow.example delay=100ms'] });
  const slow = hello({ name: 'slow.example' });
  play.say(slow);
  expect([play.far.bytes, play.holds]).toEqual([0, [1, 0, 0, 0]]);
  play.host.run(Millis(98));
  expect(play.far.bytes).toBe(0);
  play.host.run(Millis(2));
  expect(play.sent).toEqual(slow);
});

test.each(['4mbit', '1mbit'])('a tap sees every byte once, also those that wait again behind a rate (%s)', (rate) => {
  const shown: Uint8Array[] = [];
  let isJudging = true;
  const onFlow = (): FlowDecision => ({
    action: 'allow',
    hold: () => (isJudging ? 'judging' : 'none'),
    tap: (toHost, bytes, offset, length) => {
      if (toHost) shown.push(bytes.slice(offset, offset + length));
      return true;
    },
  });
  const play = new Play({ rules: [`shape port=443 rate=${rate}`], hooks: { onFlow } });
  const stream = new Uint8Array(200_000).map((_, i) => i % 251);
  play.say(stream.subarray(0, 31_111));
  play.host.run(Millis(50));
  expect([play.far.bytes, Buffer.concat(shown).length]).toEqual([0, 31_111]);
  // At the smaller rate only a part of what it has seen goes at once: the rest is offered again, with more behind it.
  isJudging = false;
  play.host.engine.reevaluate();
  let written = 31_111;
  for (let i = 0; i < 1000 && written < stream.length; i++) {
    written += play.client.connection.write(stream, written, stream.length - written);
    play.host.run(Millis(5));
  }
  play.host.run(Seconds(2));
  expect(Buffer.compare(play.sent, stream)).toBe(0);
  expect(Buffer.compare(Buffer.concat(shown), stream)).toBe(0);
  expect(shown.every(({ length }) => length > 0)).toBe(true);
});

test('a silent program hears as much as its server has to say, and may end without a word', () => {
  for (const said of [new Uint8Array(0), bad.subarray(0, 30)]) {
    const play = new Play();
    play.say(said);
    let pieces = 0;
    for (let i = 0; i < 1000 && pieces < 50; i++) {
      if (play.far.paused) play.host.run(Millis(1));
      else play.host.reply(play.far, new Uint8Array(20_000).fill(pieces++));
    }
    play.host.run(Millis(50));
    const heard = Uint8Array.from({ length: 50 * 20_000 }, (_, i) => Math.floor(i / 20_000));
    expect(Buffer.compare(play.client.data, heard)).toBe(0);
    play.client.connection.shutdownWrite();
    play.host.run(Millis(1));
    expect(play.state).toEqual([said.length, true, undefined, undefined]);
  }
});

test('a server that takes nothing more is waited for as ever', () => {
  const play = new Play();
  play.far.room = 10;
  const stream = join(good, new Uint8Array(100_000).fill(7));
  play.say(stream.subarray(0, 30));
  let written = 30;
  for (let i = 0; i < 400 && written < stream.length; i++) {
    written += play.client.connection.write(stream, written, stream.length - written);
    play.host.run(Millis(1));
    if (i % 20 !== 0) continue;
    play.far.room = 5000;
    play.host.engine.resumed(play.far.id);
  }
  play.far.room = Number.POSITIVE_INFINITY;
  play.host.engine.resumed(play.far.id);
  play.host.run(Seconds(1));
  expect([written, Buffer.compare(play.sent, stream)]).toEqual([stream.length, 0]);
});

test('without rules by name nothing waits; other rules count from the next byte, and for what waits', () => {
  const play = new Play({ rules: ['reject port=25'] });
  play.say(bad.subarray(0, 10));
  expect([play.far.bytes, play.holds]).toEqual([10, [0, 0, 0, 0]]);
  // Of what has begun to leave nothing is held.
  play.host.engine.setRules(refuseBad.rules);
  play.host.run(Millis(1));
  play.say(bad.subarray(10, 20));
  expect(play.far.bytes).toBe(20);
  play.say(bad.subarray(20));
  expect([play.client.closed, play.holds]).toEqual(['reset', [0, 0, 0, 0]]);
  const later = new Play({ rules: ['reject port=25'] });
  later.host.engine.setRules(refuseBad.rules);
  later.host.run(Millis(1));
  later.say(bad.subarray(0, 10));
  expect(later.state).toEqual(LIVE);
  later.host.engine.setRules(['reject host=another.example']);
  later.host.run(Millis(1));
  expect(later.state).toEqual(LIVE);
  later.host.engine.setRules([]);
  later.host.run(Millis(1));
  expect([later.far.bytes, later.holds]).toEqual([10, [1, 0, 0, 0]]);
  // Nothing waits a second time.
  later.host.engine.setRules(['reject host=another.example']);
  later.host.run(Millis(1));
  later.say(bad.subarray(10, 20));
  expect(later.far.bytes).toBe(20);
  const refused = new Play();
  refused.say(bad.subarray(0, 10));
  refused.host.engine.setRules(['reject']);
  refused.host.run(Millis(1));
  expect([refused.state, refused.holds]).toEqual([REFUSED, [0, 1, 0, 0]]);
});

test('a host may hold a flow by a decision of its own, and its tap sees every byte once', () => {
  let answer: 'watching' | 'judging' | 'none' | undefined = 'watching';
  let isGood = true;
  const shown: string[] = [];
  const onFlow = (_flow: FlowRequest): FlowDecision => {
    const now = answer;
    if (now === 'none' && !isGood) return { action: 'block', how: 'reset' };
    return {
      action: 'allow',
      ...(now === undefined ? {} : { hold: () => now }),
      tap: (toHost, bytes, offset, length) => {
        if (toHost) shown.push(Buffer.from(bytes.subarray(offset, offset + length)).toString());
        return true;
      },
    };
  };
  const decide = (play: Play, good: boolean): void => {
    [answer, isGood] = ['none', good];
    play.host.engine.reevaluate();
    play.host.run(Millis(1));
  };
  const play = new Play({ hooks: { onFlow } });
  play.say(bytesOf('who '));
  play.say(bytesOf('am '));
  play.host.engine.reevaluate();
  play.host.run(Millis(1));
  expect([play.state, shown]).toEqual([LIVE, ['who ', 'am ']]);
  decide(play, true);
  play.say(bytesOf('I?'));
  expect([play.far.text, shown, play.holds]).toEqual(['who am I?', ['who ', 'am ', 'I?'], [1, 0, 0, 0]]);
  // The last decision counts.
  answer = 'watching';
  const free = new Play({ hooks: { onFlow } });
  free.say(bytesOf('hello'));
  expect(free.state).toEqual(LIVE);
  answer = undefined;
  free.host.engine.reevaluate();
  free.host.run(Millis(1));
  expect([free.far.text, free.holds]).toEqual(['hello', [1, 0, 0, 0]]);
  // While it judges, neither much nor an end hurries it; time does.
  answer = 'judging';
  const slow = new Play({ hooks: { onFlow } });
  slow.say(new Uint8Array(13_000));
  slow.client.connection.shutdownWrite();
  slow.host.run(Millis(4990));
  expect(slow.state).toEqual(LIVE);
  slow.host.run(Millis(20));
  expect([slow.state, slow.holds]).toEqual([
    [13_000, true, undefined, undefined],
    [0, 0, 1, 0],
  ]);
  answer = 'watching';
  const refused = new Play({ hooks: { onFlow } });
  refused.say(bytesOf('secret'));
  decide(refused, false);
  expect([refused.state, refused.holds]).toEqual([REFUSED, [0, 1, 0, 0]]);
});

test('a hundred flows that wait take memory within the stack’s bounds, and give it back', () => {
  const host = new MockHost({ ...refuseBad, preset: 'mobile' });
  const flows = Array.from({ length: 100 }, () => host.open(WEB));
  const stream = hello({ name: BAD, keyShare: 13_000 });
  for (const { client } of flows) {
    client.connection.write(stream, 0, 12_000);
    host.run(Millis(5));
  }
  expect(new Set(flows.map(({ host: far }) => far.bytes))).toEqual(new Set([0]));
  const held = host.values['buffer_bytes']!;
  expect(held).toBeGreaterThanOrEqual(100 * 12_000);
  // A few are kept for reuse.
  expect(held).toBeLessThanOrEqual(104 * 16 * 1024);
  host.run(Seconds(5));
  expect(new Set(flows.map(({ host: far }) => far.bytes))).toEqual(new Set([12_000]));
  for (const { client } of flows) client.connection.abort();
  host.run(Seconds(1));
  expect(host.values).toMatchObject({ 'tcp_holds{end=gave_up}': 100, 'flows_active{protocol=tcp}': 0 });
});
