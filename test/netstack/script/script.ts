/**
 * Runs a script: lines of packets in, packets expected out, and calls of the application, in virtual time.
 *
 *   open [options]        a SYN comes, is accepted, and its SYN-ACK answered    connect          the stack opens (SYN to be expected)
 *   listen [hold|refuse]  SYNs are accepted at once, kept, or reset              accept, reject   of the kept one
 *   <- SEGMENT            a segment comes in                                    -> SEGMENT [@T]  the next segment out (T after the wait began)
 *   -> any                whatever went out meanwhile                           wait T           time passes
 *   write N, fin, abort   calls                                                 take N|all, pull what the application accepts at a time
 *   icmp big MTU [SEQ], icmp unreachable [SEQ]                                  an ICMP error about the segment at SEQ comes in
 *   is STATE, got N, closed REASON|no, cwnd N, count NAME N                     must hold now
 *
 * `a ; b` on one line: both happen in one turn of the stack. Everything that goes out must be expected: at each line but `->` nothing may be left over. `#` starts a comment.
 */
import { expect, test } from 'vitest';
import { IpAddress, SocketAddress } from '../../../src/base/address.js';
import { Micros } from '../../../src/base/time.js';
import type { StackCounter } from '../../../src/netstack/counters.js';
import type { TcpRequest } from '../../../src/netstack/tcp/request.js';
import { State } from '../../../src/netstack/tcp/state.js';
import { type PeerOptions, pattern } from '../harness.js';
import { type Seen, WirePeer } from '../wire-peer.js';
import { icmpError } from './icmp-packet.js';
import { compare, parseSegmentText } from './segment-text.js';

const UNITS: Readonly<Record<string, number>> = { us: 1, ms: 1_000, s: 1_000_000, m: 60_000_000, h: 3_600_000_000 };

/** `200ms`, `1.5s`, `3m`. */
export function span(text: string): number {
  const match = /^([\d.]+)(us|ms|s|m|h)$/.exec(text);
  if (match === null) throw new Error(`not a time: ${text}`);
  return Number(match[1]) * UNITS[match[2]!]!;
}

type Command = (words: readonly string[]) => void;

class Runner {
  readonly w: WirePeer;
  readonly #out: (Seen & { at: number })[] = [];
  #request: TcpRequest | undefined;
  readonly #commands: Readonly<Record<string, Command>>;

  constructor(options: PeerOptions, v6: boolean) {
    this.w = new WirePeer(options);
    if (v6) {
      this.w.remote = new SocketAddress(IpAddress.parse('2001:db8::1')!, 40_000);
      this.w.local = new SocketAddress(IpAddress.parse('2001:db8::2')!, 80);
    }
    const { w } = this;
    const app = () => w.app.connection!;
    this.#commands = {
      open: (words) => {
        const { fields } = parseSegmentText(['S', '0', ...words], w);
        w.open({ mss: 1000, sackPermitted: true, ...fields });
      },
      listen: ([how]) => {
        w.peer.handlers.onSyn = (request) => {
          this.#request = request;
          if (how === 'refuse') request.reject('reset');
          else if (how !== 'hold') w.app.connection = request.accept(w.app);
        };
      },
      accept: () => {
        w.app.connection = this.#request!.accept(w.app);
      },
      reject: () => this.#request!.reject('reset'),
      connect: () => {
        w.app.connection = w.stack.connect(w.now, w.remote, w.app, w.local);
      },
      '<-': (words) => {
        const { flags, fields } = parseSegmentText(words, w);
        w.send(flags, fields);
      },
      icmp: ([kind, size, seq]) => {
        const mtu = kind === 'big' ? Number(size) : 0;
        const at = Number((kind === 'big' ? seq : size) ?? 1);
        w.peer.receive(w.now, icmpError(w, (w.irs + at) >>> 0, mtu));
      },
      write: ([n]) => {
        expect(app().write(pattern(7, Number(n)), 0, Number(n))).toBe(Number(n));
      },
      fin: () => app().shutdownWrite(),
      abort: () => app().abort(),
      pull: () => {
        app().pull();
      },
      take: ([n]) => {
        w.app.limit = n === 'all' ? Number.POSITIVE_INFINITY : Number(n);
      },
      wait: ([time]) => {
        this.#out.push(...w.wait(Micros(span(time!))));
      },
      is: ([state]) => {
        const name = Object.entries(State).find(([, value]) => value === app().state)![0];
        expect(name).toBe(state);
      },
      got: ([n]) => expect(w.app.total).toBe(Number(n)),
      closed: ([reason]) => expect(w.app.closed ?? 'no').toBe(reason),
      cwnd: ([n]) => expect(app().sender.congestion.window).toBe(Number(n)),
      count: ([name, n]) => expect(w.count(name as StackCounter)).toBe(Number(n)),
    };
  }

  line(words: readonly string[]): void {
    const [verb = '', ...rest] = words;
    if (verb === '->') {
      this.#expect(rest);
      return;
    }
    this.finish();
    for (let from = 0; from < words.length; ) {
      const semicolon = words.indexOf(';', from);
      const end = semicolon < 0 ? words.length : semicolon;
      const [name = '', ...rest] = words.slice(from, end);
      const command = this.#commands[name];
      if (command === undefined) throw new Error(`unknown command ${name}`);
      command(rest);
      from = end + 1;
    }
    this.#collect();
  }

  finish(): void {
    expect(this.#out.map((s) => `${s.flags} ${s.seq}+${s.data.length} ack ${s.ack} @${s.at}us`)).toEqual([]);
  }

  #collect(): void {
    this.#out.push(...this.w.take().map((s) => ({ ...s, at: 0 })));
  }

  #expect(words: readonly string[]): void {
    if (words[0] === 'any') {
      this.#out.length = 0;
      return;
    }
    const time = words.find((word) => word.startsWith('@'));
    const expected = parseSegmentText(
      words.filter((word) => word !== time),
      this.w,
    );
    const seen = this.#out.shift();
    if (seen === undefined) throw new Error('nothing went out');
    const [wanted, came] = compare(expected, seen, this.w);
    expect(came).toBe(wanted);
    // To a tenth of a millisecond: round trips of nothing count as one microsecond.
    if (time !== undefined) expect(`${Math.round(seen.at / 100)}`).toBe(`${Math.round(span(time.slice(1)) / 100)}`);
  }
}

/** One script as a test. `ipv6`: over IPv6. */
export function script(name: string, text: string, options: PeerOptions & { ipv6?: boolean } = {}): void {
  test(name, () => {
    const { ipv6, ...rest } = options;
    const tcp = { timestamps: false, ecn: 'off' as const, ...rest.tcp };
    const runner = new Runner({ ...rest, tcp }, ipv6 === true);
    const lines = text.split('\n');
    lines.forEach((line, i) => {
      const words = line.replace(/#.*/, '').trim().split(/\s+/);
      if (words[0] === '') return;
      try {
        runner.line(words);
      } catch (error) {
        throw new Error(`line ${i}: ${line.trim()}\n${(error as Error).message}`, { cause: error });
      }
    });
    runner.finish();
  });
}
