/**
 * All flows of one session that end here: a stack, and behind it TCP, UDP and echo towards the host's sockets.
 */
import { TokenBucket } from '../base/bucket.js';
import type { Counters } from '../base/counters.js';
import { earliest, type Instant, later, Seconds } from '../base/time.js';
import type { StackOptions } from '../netstack/options.js';
import { Stack } from '../netstack/stack.js';
import type { Reactor } from '../os/io.js';
import type { Dialer } from './dialer.js';
import { EchoFlows } from './echo-flows.js';
import type { FlowCounter, FlowLimits, FlowRouter } from './flow-options.js';
import type { Shaper } from './shaping/shaper.js';
import { type FlowHost, TcpFlows } from './tcp-flows.js';
import { UdpFlows } from './udp-flows.js';

/** How often flows are looked at for having been idle too long. */
const SWEEP_INTERVAL = Seconds(5);

export interface FlowsParts {
  readonly reactor: Reactor;
  readonly dialer: Dialer;
  readonly router: FlowRouter;
  readonly limits: FlowLimits;
  readonly counters: Counters<FlowCounter>;
  /** Holds flows back whose target says so. */
  readonly shaper?: Shaper;
  /** Everything but the handlers, which are the flows'. */
  readonly stack: Omit<StackOptions, 'handlers'>;
  /** The stack has something to send: call `flush` this turn. */
  readonly onActivity: () => void;
}

export class Flows {
  readonly stack: Stack;
  readonly tcp: TcpFlows;
  readonly udp: UdpFlows;
  readonly echo: EchoFlows;
  readonly #reactor: Reactor;
  readonly #shaper: Shaper | undefined;
  #nextSweep: Instant;

  constructor(parts: FlowsParts) {
    const { reactor, limits } = parts;
    const bucket = new TokenBucket(limits.newFlowRate, limits.newFlowBurst);
    const host: FlowHost = {
      reactor,
      dialer: parts.dialer,
      router: parts.router,
      limits,
      counters: parts.counters,
      shaper: parts.shaper,
      admitNew: (now) => bucket.take(now),
      onActivity: parts.onActivity,
    };
    this.#reactor = reactor;
    this.#shaper = parts.shaper;
    this.#nextSweep = later(reactor.now(), SWEEP_INTERVAL);
    this.stack = new Stack({
      ...parts.stack,
      handlers: {
        onSyn: (request) => this.tcp.onSyn(reactor.now(), request),
        onUdp: (addresses, bytes, offset, length) => this.udp.onUdp(reactor.now(), addresses, bytes, offset, length),
        onEcho: (addresses, identifier, sequence, bytes, offset, length) =>
          this.echo.onEcho(reactor.now(), addresses, identifier, sequence, bytes, offset, length),
      },
    });
    this.tcp = new TcpFlows(host);
    this.udp = new UdpFlows(host, this.stack, parts.stack.entropy.uint32());
    this.echo = new EchoFlows(host, this.stack);
  }

  /** Timers, idle flows, what was held back long enough, and what the stack has to send. */
  flush(now: Instant): void {
    const due = this.stack.pollTimeout();
    if (due !== undefined && due <= now) this.stack.handleTimeout(now);
    if (now >= this.#nextSweep) {
      this.#nextSweep = later(now, SWEEP_INTERVAL);
      this.udp.expire(now);
      this.echo.expire(now);
    }
    this.#shaper?.expire(now);
    this.stack.flush(now);
  }

  nextTimeout(): Instant | undefined {
    const sweep = this.udp.size + this.echo.size > 0 ? this.#nextSweep : undefined;
    return earliest(earliest(this.stack.pollTimeout(), sweep), this.#shaper?.nextDue());
  }

  /** The policy has changed: flows that it no longer allows end. @param only packed as for the router: this TCP or UDP flow alone */
  reevaluate(only?: Uint32Array): void {
    this.tcp.reevaluate(only);
    this.udp.reevaluate(only);
    if (only === undefined) this.echo.reevaluate();
    this.stack.flush(this.#reactor.now());
  }

  /** Ends every flow; the resets leave at once. */
  close(): void {
    this.tcp.close();
    this.udp.close();
    this.echo.close();
    this.stack.flush(this.#reactor.now());
  }
}
