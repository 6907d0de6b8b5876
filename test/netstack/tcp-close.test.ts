/** How connections end: FIN and RST in every order (RFC 9293 §3.6, §3.10.7), half-closes, TIME-WAIT, bytes not yet taken. */
import { describe, expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { SPENT_RECEIVER, SPENT_SENDER } from '../../src/netstack/tcp/resting.js';
import { State } from '../../src/netstack/tcp/state.js';
import { Collector, pattern } from './harness.js';
import { brief, WirePeer } from './wire-peer.js';

const opened = (options = {}): WirePeer => {
  const w = new WirePeer(options);
  w.open();
  return w;
};
const bytes = (n: number): Uint8Array => pattern(9, n);

describe('orderly', () => {
  test('the peer closes first: CLOSE-WAIT, LAST-ACK, CLOSED', () => {
    const w = opened();
    w.send('FPA', { seq: 1, ack: 1, data: bytes(10) });
    expect(w.take().map(brief)).toEqual(['A 1:1 ack 12']);
    expect([w.app.total, w.app.peerClosed, w.app.closed]).toEqual([10, 1, undefined]);
    expect(w.app.connection!.state).toBe(State.closeWait);
    w.app.connection!.write(bytes(5), 0, 5);
    w.app.connection!.shutdownWrite();
    expect(w.app.connection!.state).toBe(State.lastAck);
    expect(w.take().map(brief)).toEqual(['FPA 1:6 ack 12']);
    w.send('A', { seq: 12, ack: 7 });
    expect(w.app.closed).toBe('finished');
    expect(w.stack.flows).toBe(0);
  });

  test('this end closes first: FIN-WAIT-1, FIN-WAIT-2, data still arrives, TIME-WAIT', () => {
    const w = opened();
    const c = w.app.connection!;
    c.shutdownWrite();
    expect(w.take().map(brief)).toEqual(['FA 1:1 ack 1']);
    expect(c.state).toBe(State.finWait1);
    w.send('A', { seq: 1, ack: 2 });
    expect(c.state).toBe(State.finWait2);
    w.send('PA', { seq: 1, ack: 2, data: bytes(100) });
    expect(w.app.total).toBe(100);
    w.send('FA', { seq: 101, ack: 2 });
    expect(w.take().map(brief)).toEqual(['A 2:2 ack 102']);
    expect([c.state, w.app.closed, w.app.peerClosed]).toEqual([State.timeWait, 'finished', 1]);
    w.wait(Seconds(2));
    expect(w.stack.flows).toBe(0);
  });

  test('FIN and ACK of ours in one segment', () => {
    const w = opened();
    w.app.connection!.shutdownWrite();
    w.take();
    w.send('FA', { seq: 1, ack: 2 });
    expect(w.app.connection!.state).toBe(State.timeWait);
    expect(w.take().map(brief)).toEqual(['A 2:2 ack 2']);
  });

  test('both at once: CLOSING, TIME-WAIT', () => {
    const w = opened();
    w.app.connection!.shutdownWrite();
    w.take();
    w.send('FA', { seq: 1, ack: 1 });
    expect(w.app.connection!.state).toBe(State.closing);
    expect(w.take().map(brief)).toEqual(['A 2:2 ack 2']);
    w.send('A', { seq: 2, ack: 2 });
    expect([w.app.connection!.state, w.app.closed]).toEqual([State.timeWait, 'finished']);
  });

  test('a FIN ahead of missing bytes waits for them', () => {
    const w = opened();
    w.send('FA', { seq: 11, ack: 1 });
    expect([w.app.peerClosed, w.app.connection!.state]).toEqual([0, State.established]);
    w.send('PA', { seq: 1, ack: 1, data: bytes(10) });
    expect([w.app.peerClosed, w.app.connection!.state]).toEqual([1, State.closeWait]);
    expect(w.take().at(-1)!.ack).toBe(12);
  });

  test('FIN is repeated until acknowledged', () => {
    const w = opened();
    w.app.connection!.shutdownWrite();
    const seen = w.wait(Seconds(4));
    expect(seen.map(brief)).toEqual(new Array(5).fill('FA 1:1 ack 1'));
  });

  test('a repeated FIN of the peer is acknowledged again, in CLOSE-WAIT and in TIME-WAIT', () => {
    const w = opened();
    w.send('FA', { seq: 1, ack: 1 });
    w.take();
    w.send('FA', { seq: 1, ack: 1 });
    expect(w.take().map(brief)).toEqual(['A 1:1 ack 2']);
    expect(w.app.peerClosed).toBe(1);
    const v = opened();
    v.app.connection!.shutdownWrite();
    v.take();
    v.send('FA', { seq: 1, ack: 2 });
    v.take();
    v.wait(Millis(900));
    v.send('FA', { seq: 1, ack: 2 });
    expect(v.take().map(brief)).toEqual(['A 2:2 ack 2']);
    v.wait(Millis(900));
    expect(v.stack.flows).toBe(1); // the rest began anew
    v.wait(Millis(200));
    expect(v.stack.flows).toBe(0);
  });

  test('data after our half-close of a stream that stays open for long', () => {
    const w = opened({ tcp: { halfClosedTimeout: Seconds(60) } });
    w.app.connection!.shutdownWrite();
    w.take();
    w.send('A', { seq: 1, ack: 2 });
    for (let i = 0; i < 5; i++) {
      w.wait(Seconds(50));
      w.send('PA', { seq: 1 + i, ack: 2, data: bytes(1) });
    }
    expect([w.app.total, w.app.closed]).toEqual([5, undefined]);
    w.wait(Seconds(61));
    expect(w.app.closed).toBe('idle');
  });
});

describe('bytes not yet taken', () => {
  test('survive the end of both streams (LAST-ACK side)', () => {
    const w = opened();
    w.app.limit = 0;
    w.send('FPA', { seq: 1, ack: 1, data: bytes(500) });
    w.app.connection!.shutdownWrite();
    w.take();
    w.send('A', { seq: 502, ack: 2 });
    expect([w.app.peerClosed, w.app.closed, w.app.connection!.readable]).toEqual([0, undefined, 500]);
    w.app.limit = 1000;
    expect(w.app.connection!.pull()).toBe(500);
    expect([w.app.peerClosed, w.app.closed]).toEqual([1, 'finished']);
    expect(w.stack.flows).toBe(0);
    expect(w.stack.pool.lentBytes).toBe(0);
  });

  test('survive TIME-WAIT and a late RST (RFC 1337)', () => {
    const w = opened();
    w.app.limit = 0;
    w.app.connection!.shutdownWrite();
    w.take();
    w.send('FPA', { seq: 1, ack: 2, data: bytes(500) });
    w.wait(Seconds(10));
    w.send('R', { seq: 502 });
    expect(w.app.closed).toBeUndefined();
    w.app.limit = 1000;
    w.app.connection!.pull();
    expect([w.app.total, w.app.closed]).toEqual([500, 'finished']);
    w.wait(Seconds(2));
    expect(w.stack.flows).toBe(0);
  });
});

describe('reset', () => {
  test('abort sends RST and ends at once', () => {
    const w = opened();
    w.app.connection!.write(bytes(100), 0, 100);
    w.app.connection!.abort();
    expect(w.take().map(brief)).toEqual(['RA 1:1 ack 1']);
    expect(w.app.closed).toBe('aborted');
    expect([w.stack.flows, w.stack.pool.lentBytes]).toEqual([0, 0]);
    expect(w.app.connection!.write(bytes(1), 0, 1)).toBe(0);
  });

  test('abort of a connection not yet answered sends nothing', () => {
    const w = new WirePeer();
    w.connect();
    w.app.connection!.abort();
    expect(w.take()).toEqual([]);
    expect(w.app.closed).toBe('aborted');
  });

  test.each([
    ['ESTABLISHED', (_w: WirePeer) => {}],
    ['FIN-WAIT-1', (w: WirePeer) => w.app.connection!.shutdownWrite()],
    [
      'FIN-WAIT-2',
      (w: WirePeer) => {
        w.app.connection!.shutdownWrite();
        w.take();
        w.send('A', { seq: 1, ack: 2 });
      },
    ],
  ])('an exact RST ends %s; one elsewhere in the window is challenged; one outside is ignored', (_name, prepare) => {
    const w = opened();
    prepare(w);
    w.take();
    w.send('R', { seq: 5000 });
    expect(w.take().map((s) => s.flags)).toEqual(['A']);
    w.send('R', { seq: -5 });
    w.send('R', { seq: 10_000_000 });
    expect([w.take(), w.app.closed]).toEqual([[], undefined]);
    w.send('R', { seq: 1 });
    expect(w.app.closed).toBe('reset');
    expect([w.stack.flows, w.take()]).toEqual([0, []]);
  });

  test('segments for no connection are reset, RSTs are not answered', () => {
    const w = new WirePeer();
    w.send('A', { seq: 5, ack: 700 });
    w.send('PA', { seq: 5, ack: 700, data: bytes(3) });
    w.send('F', { seq: 9 });
    w.send('R', { seq: 9 });
    expect(w.take().map(brief)).toEqual(['R 700:700 ack 0', 'R 700:700 ack 0', 'RA 0:0 ack 10']);
  });

  test('resets to unknown flows are rate limited', () => {
    const w = new WirePeer({ limits: { errorBurst: 10, errorRate: 10 } });
    for (let i = 0; i < 100; i++) w.send('A', { ack: 1 });
    expect(w.take().length).toBe(10);
  });
});

test('in TIME-WAIT a connection holds no halves, and answers a repeated FIN as if it did', () => {
  const w = opened();
  const c = w.app.connection!;
  w.send('PA', { seq: 1, ack: 1, data: bytes(100) });
  c.shutdownWrite();
  w.take();
  w.send('FA', { seq: 101, ack: 2 });
  const [answer] = w.take();
  expect([c.sender === SPENT_SENDER, c.receiver === SPENT_RECEIVER]).toEqual([true, true]);
  expect([c.readable, c.queued, c.writable, c.peerClosed]).toEqual([0, 0, 0, true]);
  w.wait(Millis(500));
  w.send('FA', { seq: 101, ack: 2 });
  expect(w.take()).toMatchObject([{ seq: answer!.seq, ack: answer!.ack, window: answer!.window }]);
  expect([c.state, c.sender === SPENT_SENDER]).toEqual([State.timeWait, true]);
  // Numbers it never sent are challenged, not believed.
  w.send('A', { seq: 102, ack: 5000 });
  expect(w.take()).toMatchObject([{ seq: answer!.seq, ack: answer!.ack }]);
  c.abort();
  expect([c.state, w.stack.flows, w.stack.pool.lentBytes]).toEqual([State.closed, 0, 0]);
});

test('TIME-WAIT gives way to a SYN that is newer, not to an old one (RFC 6191)', () => {
  const w = opened();
  w.app.connection!.shutdownWrite();
  w.take();
  w.send('FA', { seq: 1, ack: 2 });
  w.take();
  let asked = 0;
  w.peer.handlers.onSyn = () => {
    asked++;
  };
  w.send('S', { seq: -1000 });
  expect(asked).toBe(0);
  w.send('S', { seq: 100_000 });
  expect(asked).toBe(1);
  expect(w.stack.flows).toBe(1);
});

test('abort from inside a pull leaves nothing behind', () => {
  const w = opened();
  w.app.limit = 0;
  w.send('PA', { seq: 1, ack: 1, data: bytes(5000) });
  const c = w.app.connection!;
  w.app.onData = () => {
    c.abort();
    return 100;
  };
  expect(c.pull()).toBe(0);
  expect([c.readable, w.stack.pool.lentBytes, w.stack.flows]).toEqual([0, 0, 0]);
});

test('onClosed comes once, and calls from inside the handlers are safe', () => {
  const w = new WirePeer();
  const app = new (class extends Collector {
    override onData(b: Uint8Array, o: number, n: number): number {
      super.onData(b, o, n);
      this.connection!.abort();
      return 1;
    }
  })();
  w.peer.handlers.onSyn = (request) => {
    app.connection = request.accept(app);
  };
  w.send('S');
  w.take();
  w.send('A', { seq: 1, ack: 1 });
  w.send('FPA', { seq: 1, ack: 1, data: bytes(100) });
  expect(app.closed).toBe('aborted');
  expect(app.peerClosed).toBe(0);
  app.connection!.abort();
  app.connection!.shutdownWrite();
  expect(app.connection!.pull()).toBe(0);
  expect(w.take().map((s) => s.flags)).toEqual(['RA']);
  expect(w.stack.pool.lentBytes).toBe(0);
});
