/** One client of one HTTPS server, its connections and posts in the test's hands: nothing is lost, told twice or left behind. */
import { describe, expect, it } from 'vitest';
import { Millis, Seconds } from '../../../src/base/time.js';
import { HttpsClient } from '../../../src/engine/dns/https-client.js';
import { writeName, writeQuery } from '../../../src/engine/dns/message.js';
import type { DnsStreamHandlers } from '../../../src/engine/dns/transport.js';
import type { HttpRequests, HttpResponse } from '../../../src/os/io.js';
import { a, DnsWorld, read, reply } from './world.js';

type Done = (response: HttpResponse | 'refused' | 'failed') => void;

/** What a server answers to the query in `body`; `name`: to another question. */
function answerTo(body: Uint8Array, name?: string): Uint8Array {
  const packet = read(body);
  const question = name === undefined ? packet.questions![0]! : { ...packet.questions![0]!, name };
  const from = { via: 'tls', bytes: body, query: packet, question, name: question.name } as const;
  return reply(from, { answers: [a(question.name, '10.1.1.1')] });
}

const setup = ({ http = 2, opens = true } = {}) => {
  const world = new DnsWorld();
  const posted: { readonly body: Uint8Array; readonly done: Done; withdrawn: boolean }[] = [];
  const written: Uint8Array[] = [];
  const connections: { handlers: DnsStreamHandlers; isClosed: boolean; closes: number }[] = [];
  const state = { refuses: false };
  const requests: HttpRequests = {
    post: (host, path, type, body, done) => {
      expect([host, path, type]).toEqual(['dns.example', '/q', 'application/dns-message']);
      const one = { body, done, withdrawn: false };
      posted.push(one);
      return () => {
        one.withdrawn = true;
      };
    },
  };
  const client = new HttpsClient({
    open: (handlers) => {
      if (state.refuses) return undefined;
      const connection = { handlers, isClosed: false, closes: 0 };
      connections.push(connection);
      if (opens)
        world.at(world.now(), () => !connection.isClosed && handlers.onOpen(http === 2 ? requests : undefined));
      return {
        write: (bytes) => (http === 2 ? expect.unreachable('requests are posted') : written.push(bytes.slice())),
        close: () => {
          connection.isClosed = true;
          connection.closes++;
        },
      };
    },
    timers: world,
    entropy: world.entropy,
    counters: world.counters,
    host: 'dns.example',
    path: '/q',
  });
  const ask = (name: string) => {
    const query = writeQuery({ id: 7, name: writeName(name)!, type: 1, checkingDisabled: false, dnssec: undefined });
    const told: boolean[] = [];
    const withdraw = client.ask(query, query.length, (answer) => told.push(answer !== undefined));
    return { told, withdraw };
  };
  const answer = (i: number, name?: string) => {
    const { body, done } = posted[i]!;
    done({ status: 200, body: answerTo(body, name) });
  };
  /** HTTP/1.1: the answer to what was written as number `i`, on connection `on`. */
  const respond = (i: number, on: number, head = '') => {
    const request = Buffer.from(written[i]!);
    const body = answerTo(Uint8Array.from(request.subarray(request.indexOf('\r\n\r\n') + 4)));
    say(on, `HTTP/1.1 200 OK\r\n${head}Content-Length: ${body.length}\r\n\r\n`, body);
  };
  const say = (on: number, text: string, body: Uint8Array = new Uint8Array(0)) => {
    const bytes = Uint8Array.from(Buffer.concat([Buffer.from(text), body]));
    connections[on]!.handlers.onData(bytes, 0, bytes.length);
  };
  const soon = () => world.run(Millis(1));
  const malformed = () => world.counters.get('dns_malformed');
  return { world, client, posted, written, connections, state, ask, answer, respond, say, soon, malformed };
};

describe('over HTTP/2', () => {
  it('leaves a connection on which nothing came since a question that is given up, and keeps one that answers', () => {
    const { world, posted, connections, ask, answer, soon } = setup();
    const [slow, other] = [ask('slow.example'), ask('other.example')];
    soon();
    expect(posted.map(({ body }) => [body[0], body[1]])).toEqual([
      [0, 0],
      [0, 0],
    ]);
    answer(1);
    slow.withdraw();
    expect([other.told, slow.told, posted[0]!.withdrawn, connections[0]!.isClosed]).toEqual([[true], [], true, false]);
    const [silent, beside] = [ask('silent.example'), ask('beside.example')];
    silent.withdraw();
    expect([beside.told, connections[0]!.isClosed]).toEqual([[false], true]);
    const next = ask('next.example');
    soon();
    answer(4);
    // What comes too late is nobody's.
    answer(3);
    expect([connections.length, next.told, beside.told, silent.told]).toEqual([2, [true], [false], []]);
    world.run(Seconds(31));
    expect([connections[1]!.isClosed, world.timersArmed]).toEqual([true, 0]);
  });

  it('has 100 questions on a connection and 256 that wait, and fails the next', () => {
    const { posted, ask, answer, soon } = setup();
    ask('first.example');
    soon();
    const others = Array.from({ length: 99 + 256 + 1 }, (_, i) => ask(`n${i}.example`));
    soon();
    expect(posted).toHaveLength(100);
    expect(others.map(({ told }) => told).filter((told) => told.length > 0)).toEqual([[false]]);
    answer(0);
    expect(posted).toHaveLength(101);
  });

  it('asks once more what was refused; the old connection answers what it has and is closed', () => {
    const { posted, connections, ask, answer, soon } = setup();
    const [taken, refused] = [ask('taken.example'), ask('refused.example')];
    soon();
    posted[1]!.done('refused');
    soon();
    expect([connections.length, connections[0]!.isClosed, posted.length]).toEqual([2, false, 3]);
    answer(0);
    expect([taken.told, connections[0]!.isClosed, connections[1]!.isClosed]).toEqual([[true], true, false]);
    posted[2]!.done('refused');
    expect([refused.told, connections[1]!.isClosed]).toEqual([[false], true]);
  });

  it('lets go of everything when it closes: on connections old and new, and waiting', () => {
    const { world, client, posted, connections, ask, soon } = setup();
    const asked = [ask('a.example'), ask('b.example')];
    soon();
    posted[1]!.done('refused');
    asked.push(ask('c.example'));
    client.close();
    soon();
    expect(asked.map(({ told }) => told)).toEqual([[false], [false], [false]]);
    expect([connections.map(({ isClosed }) => isClosed), world.timersArmed]).toEqual([[true, true], 0]);
  });

  it('forgets a question that is withdrawn before its connection stands', () => {
    const { posted, ask, soon } = setup();
    const [gone, stays] = [ask('gone.example'), ask('stays.example')];
    gone.withdraw();
    soon();
    expect([posted.length, gone.told, stays.told]).toEqual([1, [], []]);
  });

  it('does nothing when an answered question is withdrawn, as every inquiry does', () => {
    const { posted, connections, ask, answer, soon } = setup();
    const [first, second] = [ask('a.example'), ask('b.example')];
    soon();
    answer(0);
    first.withdraw();
    expect([posted[0]!.withdrawn, connections[0]!.isClosed]).toEqual([false, false]);
    answer(1);
    expect([first.told, second.told]).toEqual([[true], [true]]);
  });

  it('counts the time it rests from its last answer or withdrawal, and not while a question is out', () => {
    const { world, connections, ask, answer, soon } = setup();
    const [first, second] = [ask('a.example'), ask('b.example')];
    soon();
    answer(0);
    second.withdraw();
    world.run(Seconds(29));
    const third = ask('c.example');
    soon();
    world.run(Seconds(5));
    answer(2);
    expect([first.told, third.told, connections.map(({ isClosed }) => isClosed)]).toEqual([[true], [true], [false]]);
    const [fourth, fifth] = [ask('d.example'), ask('e.example')];
    soon();
    answer(3);
    // Something has come since it was asked: the connection is good, and rests.
    fifth.withdraw();
    expect([fourth.told, fifth.told, connections[0]!.closes]).toEqual([[true], [], 0]);
    world.run(Seconds(31));
    expect([connections.map(({ closes }) => closes), world.timersArmed]).toEqual([[1], 0]);
  });

  it('takes only an answer to its own question, and counts what is none; what failed is not malformed', () => {
    const { posted, ask, answer, soon, malformed } = setup();
    const [other, failed, server] = [ask('a.example'), ask('b.example'), ask('c.example')];
    soon();
    answer(0, 'evil.example');
    expect([other.told, malformed()]).toEqual([[false], 1]);
    posted[1]!.done('failed');
    expect([failed.told, malformed()]).toEqual([[false], 1]);
    posted[2]!.done({ status: 503, body: answerTo(posted[2]!.body) });
    expect([server.told, malformed()]).toEqual([[false], 2]);
  });

  it('fails everything that waits for a connection that never stands, and what asks while there is none', () => {
    const { world, connections, state, ask, soon } = setup({ opens: false });
    const asked = [ask('a.example'), ask('b.example')];
    soon();
    connections[0]!.handlers.onClosed();
    expect(asked.map(({ told }) => told)).toEqual([[false], [false]]);
    state.refuses = true;
    const late = ask('c.example');
    expect(late.told).toEqual([]);
    soon();
    expect([late.told, connections.length, world.timersArmed]).toEqual([[false], 1, 0]);
  });

  it('ends each connection once, leaves no timer behind, and has nothing to do when nothing is out', () => {
    const { world, client, posted, connections, ask, answer, soon } = setup();
    const [taken] = [ask('a.example'), ask('b.example')];
    soon();
    posted[1]!.done('refused');
    soon();
    answer(0);
    expect([taken!.told, connections[0]!.closes]).toEqual([[true], 1]);
    answer(2);
    // The other end closes what rests.
    connections[1]!.handlers.onClosed();
    expect([connections.map(({ closes }) => closes), world.timersArmed]).toEqual([[1, 1], 0]);
    client.close();
    expect([connections.map(({ closes }) => closes), world.timersArmed]).toEqual([[1, 1], 0]);
  });
});

describe('over HTTP/1.1', () => {
  it('has one question on a connection; one that waits is written when its turn comes, however long that takes', () => {
    const { world, written, connections, ask, respond, soon } = setup({ http: 1 });
    const [first, second] = [ask('a.example'), ask('b.example')];
    soon();
    expect(written).toHaveLength(1);
    respond(0, 0);
    expect([first.told, second.told, written.length]).toEqual([[true], [], 2]);
    // Nobody takes a connection for idle that has a question.
    world.run(Seconds(40));
    respond(1, 0);
    expect([second.told, connections.length, connections[0]!.isClosed]).toEqual([[true], 1, false]);
    world.run(Seconds(31));
    expect([connections[0]!.closes, world.timersArmed]).toEqual([1, 0]);
  });

  it('gives up the connection of a question that is withdrawn: its answer would be taken for the next one’s', () => {
    const { world, connections, ask, respond, soon } = setup({ http: 1 });
    const [withdrawn, next] = [ask('a.example'), ask('b.example')];
    soon();
    withdrawn.withdraw();
    soon();
    expect([connections[0]!.isClosed, connections.length]).toEqual([true, 2]);
    respond(1, 1);
    expect([withdrawn.told, next.told, world.counters.get('dns_malformed')]).toEqual([[], [true], 0]);
  });

  it.each([
    ['after a response that says close', 0],
    ['when bytes come that nobody asked for', 1],
    ['when the response is none', 1],
    ['when the other end closes', 0],
  ])('gives up a connection %s, and what waits gets another one', (when, counted) => {
    const { world, connections, ask, respond, say, soon, malformed } = setup({ http: 1 });
    const first = ask('a.example');
    soon();
    if (when.includes('says close')) respond(0, 0, 'Connection: close\r\n');
    else if (when.includes('asked for')) {
      respond(0, 0);
      say(0, 'HTTP/1.1 200 OK\r\n\r\n');
    } else if (when.includes('is none')) say(0, 'SSH-2.0-x\r\n\r\n');
    else connections[0]!.handlers.onClosed();
    expect([connections[0]!.closes, malformed()]).toEqual([1, counted]);
    // Nothing of it is left: no timer either.
    expect([first.told.length, world.timersArmed]).toEqual([1, 0]);
    const next = ask('b.example');
    soon();
    respond(1, 1);
    expect(next.told).toEqual([true]);
  });

  it('asks what waits on a new connection when the other end closes, and fails only what it had taken', () => {
    const { connections, ask, respond, soon } = setup({ http: 1 });
    const [taken, waits] = [ask('a.example'), ask('b.example')];
    soon();
    connections[0]!.handlers.onClosed();
    soon();
    expect([taken.told, waits.told, connections.length]).toEqual([[false], [], 2]);
    respond(1, 1);
    expect(waits.told).toEqual([true]);
  });
});
