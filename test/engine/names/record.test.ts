/** Names that a host tells an engine of: how long, for which addresses and how many, whether it runs or not. */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../../src/base/time.js';
import { MockHost } from '../replay/mock-host.js';

test('a name holds for its time, ten minutes when none is given, at every address that is one', () => {
  const host = new MockHost();
  const { names } = host.engine;
  expect(names.record('a.example', ['192.0.2.1', 'no address', '2001:db8::1'], 30)).toBe(true);
  expect(names.record('b.example', ['192.0.2.2'])).toBe(true);
  expect(names.record('not a name', ['192.0.2.3'])).toBe(false);
  const known = () => ['192.0.2.1', '2001:db8::1', '192.0.2.2', '192.0.2.3', 'no address'].map(names.of);
  host.run(Millis(29_999));
  expect(known()).toEqual(['a.example', 'a.example', 'b.example', undefined, undefined]);
  host.run(Millis(1));
  expect(known()).toEqual([undefined, undefined, 'b.example', undefined, undefined]);
  host.run(Millis(569_999));
  expect(names.of('192.0.2.2')).toBe('b.example');
  host.run(Millis(1));
  expect(names.of('192.0.2.2')).toBeUndefined();
});

test('names outlast a stop, and are told to the host with the dial', () => {
  const host = new MockHost();
  host.engine.names.record('a.example', ['192.0.2.1']);
  host.engine.stop();
  host.engine.names.record('b.example', ['192.0.2.2']);
  host.engine.start();
  host.run(Seconds(1));
  for (const [to, name] of [
    ['192.0.2.1', 'a.example'],
    ['192.0.2.2', 'b.example'],
  ]) {
    host.connect(`${to}:80`);
    host.run(Millis(10));
    expect(host.last.request.host).toBe(name);
  }
});

test('the preset mobile remembers 2,048 addresses, those named last', () => {
  const { names } = new MockHost({ preset: 'mobile' }).engine;
  const address = (i: number): string => `10.0.${i >> 8}.${i & 255}`;
  for (let i = 0; i < 2048; i++) names.record('a.example', [address(i)]);
  expect(names.of(address(0))).toBe('a.example');
  names.record('b.example', ['192.0.2.1']);
  expect([names.of(address(0)), names.of(address(1)), names.of('192.0.2.1')]).toEqual([
    undefined,
    'a.example',
    'b.example',
  ]);
});
