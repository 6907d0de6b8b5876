/**
 * A relay connection that is made anew beside the present one, against a client that only notes: when it begins, how often, what becomes of
 * the attempt that fails, and how long the former connection is kept.
 */
import { expect, test } from 'vitest';
import { type Duration, type Instant, instantAt, later, Minutes, Seconds, wallAt } from '../../src/base/time.js';
import { RelayRenewal, type RenewalClient } from '../../src/node/relay-renewal.js';
import type { ConnectionHandler, QuicConnection } from '../../src/quic/connection.js';
import type { ControlStream } from '../../src/quic/control-stream.js';
import { encodeMessage, PROTOCOL_VERSION, RESUME } from '../../src/tunnel/messages.js';

const WALL = wallAt(1_700_000_000_000);
/** Certificates that end in six minutes are renewed after five. */
const LEFT = Minutes(6);
const DUE = Minutes(5);

interface Attempt {
  readonly connection: QuicConnection;
  readonly handler: ConnectionHandler;
}

function start({ refuses = false, capabilities = [RESUME] as readonly string[] } = {}) {
  let now = instantAt(0);
  let wall = WALL;
  const closed: string[] = [];
  const told: string[] = [];
  const attempts: Attempt[] = [];
  const make = (name: string): QuicConnection => {
    const connection = {
      name,
      certificateExpiry: wallAt(wall + LEFT / 1000),
      close: (_now: Instant, _code: number, reason: string) => closed.push(`${name}: ${reason}`),
    };
    return connection as unknown as QuicConnection;
  };
  const nameOf = (connection: QuicConnection): string => (connection as unknown as { readonly name: string }).name;
  let present: QuicConnection = make('0');
  const client: RenewalClient = {
    get connection() {
      return present;
    },
    connectBeside: (_now, handler) => {
      if (refuses) throw new Error('no');
      attempts.push({ connection: make(`${attempts.length + 1}`), handler });
      return attempts.at(-1)!.connection;
    },
    sendHello: (connection, resume) => {
      told.push(`hello ${nameOf(connection)} ${resume}`);
      return {} as ControlStream;
    },
    adopt: (connection) => {
      told.push(`adopt ${nameOf(connection)}`);
      present = connection;
    },
    onConnected: () => {},
    onControlMessage: (_now, _bytes, connection) => told.push(`message ${nameOf(connection)}`),
    onDatagrams: () => {},
    onClosed: (_now, _reason, connection) => told.push(`closed ${nameOf(connection)}`),
  };
  const renewal = new RelayRenewal(client, () => wall);
  renewal.ready(now, capabilities);
  return {
    renewal,
    attempts,
    closed,
    told,
    get now() {
      return now;
    },
    /** Lets time pass without a turn, as for a machine that sleeps. */
    sleep: (span: Duration): void => {
      now = later(now, span);
      wall = wallAt(wall + span / 1000);
    },
    /** Lets time pass; turns come when they are asked for. */
    run: (span: Duration): void => {
      const end = later(now, span);
      for (;;) {
        const next = renewal.nextTimeout();
        if (next === undefined || next > end) break;
        const passes = Math.max(0, next - now);
        now = later(now, passes as Duration);
        wall = wallAt(wall + passes / 1000);
        renewal.turn(now);
      }
      wall = wallAt(wall + (end - now) / 1000);
      now = end;
    },
    hello: ({ connection, handler }: Attempt, resume = true): void => {
      const hello = { type: 'hello', version: PROTOCOL_VERSION, role: 'relay', software: 'x', capabilities: [RESUME] };
      handler.onControlMessage!(now, encodeMessage({ ...hello, ...(resume ? { resume } : {}) } as never), connection);
    },
  };
}

const MICRO = 1 as Duration;
const end = { kind: 'timed-out', code: 0, text: '' } as never;

test('begins at five sixths of the certificates’ time, once, and not for a relay that does not know of it', () => {
  const it = start();
  it.run((DUE - MICRO) as Duration);
  expect(it.attempts).toHaveLength(0);
  it.run(MICRO);
  expect(it.attempts).toHaveLength(1);
  for (let i = 0; i < 3; i++) it.renewal.turn(it.now);
  expect(it.attempts).toHaveLength(1);
  const { renewal, attempts, run } = start({ capabilities: [] });
  expect(renewal.nextTimeout()).toBeUndefined();
  run(LEFT);
  expect(attempts).toHaveLength(0);
});

test('the former connection is kept for two seconds: what comes on it is the client’s', () => {
  const it = start();
  it.run(DUE);
  const [attempt] = it.attempts;
  attempt!.handler.onConnected(it.now, attempt!.connection);
  it.hello(attempt!);
  expect(it.told).toEqual(['hello 1 true', 'adopt 1']);
  it.run((Seconds(2) - MICRO) as Duration);
  expect(it.closed).toEqual([]);
  it.run(MICRO);
  expect(it.closed).toEqual(['0: renewed']);
  // The new one's handler is the client from now on.
  attempt!.handler.onControlMessage!(it.now, new Uint8Array(0), attempt!.connection);
  attempt!.handler.onClosed(it.now, end, attempt!.connection);
  expect(it.told.slice(2)).toEqual(['message 1', 'closed 1']);
});

test('renewed again before that, the one before the last is closed at once, and nothing is left open', () => {
  const it = start();
  it.run(DUE);
  it.hello(it.attempts[0]!);
  // The relay's hello comes twice: once for the attempt, and the client is told of the other.
  it.hello(it.attempts[0]!);
  expect(it.told).toEqual(['adopt 1', 'message 1']);
  // The next is due while the machine sleeps, and the first turn after it finds the former connection too.
  it.sleep(DUE);
  it.renewal.turn(it.now);
  expect([it.closed, it.attempts.length]).toEqual([['0: renewed'], 2]);
  it.hello(it.attempts[1]!);
  it.renewal.lost(it.now);
  expect(it.closed).toEqual(['0: renewed', '1: renewed']);
});

test('an attempt that fails leaves the client alone, and the next comes after five sixths of what is left', () => {
  const ways: ((it: ReturnType<typeof start>, attempt: Attempt) => void)[] = [
    (it, { handler, connection }) => handler.onClosed(it.now, end, connection),
    (it, attempt) => it.hello(attempt, false),
    (it) => it.run(Seconds(8)),
  ];
  for (const fail of ways) {
    const it = start();
    it.run(DUE);
    fail(it, it.attempts[0]!);
    expect([it.told, it.attempts.length]).toEqual([[], 1]);
    const left = LEFT - it.now;
    if (left < Minutes(1)) expect(it.renewal.nextTimeout()).toBeUndefined();
    else expect(it.renewal.nextTimeout()).toBe(later(it.now, ((left * 5) / 6) as Duration));
  }
  const it = start({ refuses: true });
  it.run(DUE);
  expect(it.renewal.nextTimeout()).toBe(later(it.now, Seconds(50)));
});

test('the attempt, and the former connection, end with the client’s connection', () => {
  const it = start();
  it.run(DUE);
  it.renewal.lost(it.now);
  expect(it.closed).toEqual(['1: the connection before is lost']);
  // What it says now is nobody's greeting.
  it.hello(it.attempts[0]!);
  expect(it.told).toEqual(['message 1']);
  it.run(Minutes(10));
  expect(it.attempts).toHaveLength(1);
});
