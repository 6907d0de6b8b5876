/** What an engine goes through by itself: connections that come and go, flows at rest, flows at full speed. */

import type { TcpHandlers } from '../../src/netstack/types.js';
import { EngineLoop } from './engine-loop.js';

/** Connections under way at once: a host that has fallen behind catches up, and does not make its own work dearer by holding thousands half done. */
const UNDER_WAY = 256;
const HELLO = new TextEncoder().encode('question');

export interface Churn {
  readonly done: number;
  readonly failed: number;
  readonly seconds: number;
  /** Of that time, the share in which a round found something to do. */
  readonly busyShare: number;
  /** What is left when all are over: flows, connections of the host. */
  readonly left: { readonly flows: number; readonly held: number; readonly bufferBytes: number };
}

/** Waits between rounds: real time passes by itself, a test's is moved. */
export type Between = (isBusy: boolean) => Promise<void> | void;

/**
 * Opens connections at a rate, each of which asks, is answered and ends in order.
 * @param now microseconds @param sample called with the share that is done, about a hundred times
 */
export async function churn(
  loop: EngineLoop,
  now: () => number,
  plan: { readonly perSecond: number; readonly count: number },
  between: Between,
  sample: (share: number) => void = () => {},
): Promise<Churn> {
  const began = now();
  let [begun, done, failed, nextSample, busy] = [0, 0, 0, 0, 0];
  const open = (): void => {
    begun++;
    let isAnswered = false;
    const handlers: TcpHandlers = {
      onConnected: () => void connection.write(HELLO, 0, HELLO.length),
      onData: (_bytes, _offset, length) => {
        isAnswered = true;
        return length;
      },
      onPeerClosed: () => connection.shutdownWrite(),
      onClosed: (reason) => {
        if (isAnswered && reason === 'finished') done++;
        else failed++;
      },
    };
    const connection = loop.connect(handlers);
  };
  while (done + failed < plan.count) {
    const due = Math.min(plan.count, Math.floor(((now() - began) / 1e6) * plan.perSecond) + 1);
    const from = now();
    const first = begun;
    while (begun < due && begun - done - failed < UNDER_WAY) open();
    const isBusy = loop.step() || begun > first;
    if (isBusy) busy += now() - from;
    const waits = between(isBusy);
    if (waits !== undefined) await waits;
    if (done + failed >= nextSample) {
      sample((done + failed) / plan.count);
      nextSample += plan.count / 100;
    }
  }
  const seconds = (now() - began) / 1e6;
  for (let rounds = 0; rounds < 100_000 && loop.held.size > 0; rounds++) {
    const waits = between(loop.step());
    if (waits !== undefined) await waits;
  }
  const { values } = loop;
  const left = {
    flows: values['flows_active{protocol=tcp}']!,
    held: loop.held.size,
    bufferBytes: values['buffer_bytes']!,
  };
  return { done, failed, seconds, busyShare: Math.min(1, busy / 1e6 / seconds), left };
}

/** Opens connections that say nothing. Resolves when all of them stand. */
export async function rest(loop: EngineLoop, count: number, between: Between): Promise<void> {
  let connected = 0;
  for (let i = 0; i < count; i++) {
    loop.connect({
      onConnected: () => void connected++,
      onData: (_bytes, _offset, length) => length,
      onClosed: () => {},
    });
  }
  while (connected < count) {
    const waits = between(loop.step());
    if (waits !== undefined) await waits;
  }
}

/** Flows that send all they can for so long. Returns the shares of turns that took over 5 ms and that began over 5 ms late, and Mbit/s. */
export async function load(
  loop: EngineLoop,
  now: () => number,
  plan: { readonly flows: number; readonly seconds: number },
  between: Between,
): Promise<{ readonly slow: number; readonly late: number; readonly turns: number; readonly mbits: number }> {
  loop.echoes = false;
  const piece = new Uint8Array(64 * 1024);
  const flows = Array.from({ length: plan.flows }, () => {
    const send = (): void => void connection.write(piece, 0, piece.length);
    const connection = loop.connect({ onConnected: send, onWritable: send, onData: () => 0, onClosed: () => {} });
    return send;
  });
  const before = loop.values;
  const bytes = loop.received;
  const began = now();
  while (now() - began < plan.seconds * 1e6) {
    for (const send of flows) send();
    const waits = between(loop.step());
    if (waits !== undefined) await waits;
  }
  const { values } = loop;
  const turns = values['turns']! - before['turns']!;
  const share = (name: string): number => (values[name]! - before[name]!) / turns;
  const [slow, late] = [share('slow_turns{over=5}'), share('late_turns{over=5}')];
  loop.echoes = true;
  return { slow, late, turns, mbits: ((loop.received - bytes) * 8) / (now() - began) };
}

export { EngineLoop };
