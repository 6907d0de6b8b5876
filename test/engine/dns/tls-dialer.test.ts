/** TLS of the host's around a dialer's streams: everything in a turn, nothing after an end, and what is lent is copied. */
import { expect, test } from 'vitest';
import { withTls } from '../../../src/engine/dns/tls-dialer.js';
import type { DnsDialer, DnsStreamHandlers } from '../../../src/engine/dns/transport.js';
import type { HttpRequests, HttpResponse, TlsClient } from '../../../src/os/io.js';
import { SimClock, SimReactor } from '../../support/sim-reactor.js';
import { server } from './world.js';

const TO = server('10.0.0.53:853');
type Done = (response: HttpResponse | 'refused' | 'failed') => void;

/** A TLS that changes nothing and does what the test says: `inner` is the resolver's side of it, `outer` the stream's. */
function setup() {
  const reactor = new SimReactor(new SimClock());
  const wire: Uint8Array[] = [];
  const told: string[] = [];
  const closes = { stream: 0, tls: 0 };
  const posts: { readonly body: Uint8Array; readonly done: Done; withdrawn: boolean }[] = [];
  const sides: { inner?: DnsStreamHandlers; write?: (bytes: Uint8Array) => void } = {};
  const requests: HttpRequests = {
    post: (_host, _path, _type, body, done) => {
      const post = { body, done, withdrawn: false };
      posts.push(post);
      return () => {
        post.withdrawn = true;
      };
    },
  };
  const dialer: DnsDialer = {
    udp: () => undefined,
    tcp: () => ({ write: (bytes) => wire.push(bytes.slice()), close: () => closes.stream++ }),
  };
  const client: TlsClient = (open, _name, _protocols, handlers) => {
    sides.inner = handlers;
    const stream = open({ onOpen: () => {}, onData: () => {}, onClosed: () => {} })!;
    sides.write = (bytes) => stream.write(bytes);
    return { write: (bytes) => stream.write(bytes), close: () => closes.tls++ };
  };
  const dialled = withTls(dialer, reactor, client);
  let given: HttpRequests | undefined;
  const stream = dialled.tls!(TO, 'dns.example', ['dot'], {
    onOpen: (own) => {
      given = own;
      told.push('open');
    },
    onData: (bytes, offset, length) => told.push(`data ${[...bytes.subarray(offset, offset + length)]}`),
    onClosed: (why) => told.push(`closed ${why}`),
  })!;
  const turn = (): void => {
    while (reactor.turn());
  };
  const post = (body = Uint8Array.of(1, 2)) => {
    const ends: unknown[] = [];
    const withdraw = given!.post('dns.example', '/q', 'x/y', body, (end) => ends.push(end));
    return { ends, withdraw };
  };
  return { inner: sides.inner!, write: sides.write!, requests, stream, wire, told, closes, posts, turn, post };
}

test('what TLS says and writes happens in a turn, with the bytes as they were', () => {
  const { inner, write, wire, told, turn, requests } = setup();
  const lent = Uint8Array.of(9, 1, 2, 9);
  inner.onOpen(requests);
  inner.onData(lent, 1, 2);
  write(lent);
  expect([told, wire]).toEqual([[], []]);
  lent.fill(0);
  turn();
  expect(told).toEqual(['open', 'data 1,2']);
  expect(wire).toEqual([Uint8Array.of(9, 1, 2, 9)]);
});

test('the end is the last that is told, once, and nothing is written after it', () => {
  const { inner, write, wire, told, turn } = setup();
  inner.onClosed('untrusted');
  inner.onClosed();
  inner.onData(Uint8Array.of(1), 0, 1);
  write(Uint8Array.of(1));
  turn();
  expect([told, wire]).toEqual([['closed untrusted'], []]);
});

test('a stream that is closed ends TLS at once and says nothing more, whatever waits for a turn', () => {
  const { inner, stream, told, closes, turn } = setup();
  inner.onData(Uint8Array.of(1), 0, 1);
  stream.close();
  expect(closes.tls).toBe(1);
  inner.onClosed();
  turn();
  expect(told).toEqual([]);
});

test('a request leaves, and its answer is told, in a turn; it may outlive the stream', () => {
  const { inner, stream, requests, posts, turn, post } = setup();
  inner.onOpen(requests);
  turn();
  const lent = Uint8Array.of(1, 2);
  const { ends } = post(lent);
  lent.fill(0);
  expect(posts).toHaveLength(0);
  turn();
  expect(posts.map(({ body }) => [...body])).toEqual([[1, 2]]);
  stream.close();
  posts[0]!.done('failed');
  expect(ends).toEqual([]);
  turn();
  expect(ends).toEqual(['failed']);
});

test('a request withdrawn before its turn never leaves; one that has left is withdrawn, and its answer is nobody’s', () => {
  const { inner, requests, posts, turn, post } = setup();
  inner.onOpen(requests);
  turn();
  post().withdraw();
  turn();
  expect(posts).toHaveLength(0);
  const [left, answered] = [post(), post()];
  turn();
  left.withdraw();
  expect(posts.map(({ withdrawn }) => withdrawn)).toEqual([true, false]);
  for (const { done } of posts) done('failed');
  // Its answer waits for the turn already.
  answered.withdraw();
  turn();
  expect([left.ends, answered.ends]).toEqual([[], []]);
});
