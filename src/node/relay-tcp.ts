/**
 * A node's way to its relay over TCP, for where UDP does not pass: opened when a relay connection has not come about within
 * 250 ms of its first attempt, closed when one over UDP has.
 *
 *   attempt ──250 ms──► TLS to the control listener ─► WebSocket ─► bridge ─► the packet thread is told its loopback address
 *      ready over UDP ─► closed            stream lost ─► the packet thread is told; the next attempt opens another
 */
import { describeError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { type Duration, Millis, toMillis } from '../base/time.js';
import type { RelayContact } from '../policy/relay-contact.js';
import type { TcpBridge } from './tcp-bridge.js';
import { noCounters, sumOf, type TcpBridgeCounters } from './tcp-counters.js';
import { TcpCredit } from './tcp-credit.js';

/** RFC 8305's connection attempt delay: UDP goes first, but its failure is not waited for. */
const HEAD_START: Duration = Millis(250);

/** auto: while UDP does not reach the relay. */
export type RelayTcpChoice = 'auto' | 'never';

export interface RelayTcpParts {
  readonly network: string;
  readonly relay: RelayContact;
  readonly caPem: string;
  readonly isAllowed: boolean;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  /** The relay is reached at this address of our own, with what the bridge there shares, or no longer (undefined). */
  readonly tell: (at: { readonly address: string; readonly credit: SharedArrayBuffer } | undefined) => Promise<unknown>;
}

export class RelayTcp {
  readonly #parts: RelayTcpParts;
  #timer: NodeJS.Timeout | undefined;
  #opening: Promise<void> | undefined;
  #bridge: TcpBridge | undefined;
  #isWanted = false;
  #gone = noCounters();
  #problem = '';

  constructor(parts: RelayTcpParts) {
    this.#parts = parts;
  }

  /** The packet thread, whose IPv4 socket has this port, tries to reach the relay. */
  attempt(port: number): void {
    if (!this.#parts.isAllowed) return;
    this.#isWanted = true;
    if (this.#timer !== undefined || this.#opening !== undefined || this.#bridge !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      if (this.#isWanted) this.#opening = this.#open(port).finally(() => (this.#opening = undefined));
    }, toMillis(HEAD_START));
    this.#timer.unref();
  }

  /** The relay connection stands. */
  ready(isOverTcp: boolean): void {
    if (isOverTcp) return;
    this.stop();
  }

  /** Of this way's present bridge and those before. */
  get counters(): TcpBridgeCounters {
    return this.#bridge === undefined ? this.#gone : sumOf(this.#gone, this.#bridge.counters);
  }

  stop(): void {
    this.#isWanted = false;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#bridge?.close();
  }

  async #open(port: number): Promise<void> {
    const { log, relay, tell } = this.#parts;
    try {
      // Loaded where it is needed: most nodes never need it.
      const [{ dialRelayTcp }, { TcpBridge: Bridge }] = await Promise.all([
        import('./relay-tcp-dial.js'),
        import('./tcp-bridge.js'),
      ]);
      const stream = await dialRelayTcp(this.#parts);
      if (!this.#isWanted) {
        stream.terminate();
        return;
      }
      const credit = new TcpCredit();
      const bridge = await Bridge.open(stream, { address: '127.0.0.1', port }, credit);
      this.#bridge = bridge;
      this.#problem = '';
      log.info({ relay: relay.control }, 'a way to the relay over TCP stands by');
      void bridge.closed.then(() => {
        this.#bridge = undefined;
        this.#gone = sumOf(this.#gone, bridge.counters);
        tell(undefined).catch(() => undefined);
      });
      await tell({ address: `127.0.0.1:${bridge.local.port}`, credit: credit.memory });
    } catch (error) {
      const problem = describeError(error);
      if (problem !== this.#problem) log.warn({ relay: relay.control, problem }, 'the relay is not reached over TCP');
      this.#problem = problem;
    }
  }
}
