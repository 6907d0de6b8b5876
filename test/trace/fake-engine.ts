/** An engine that answers as a test tells it, and an environment around it that asks nobody. */
import { SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { AddressNames } from '../../src/trace/names.js';
import { Networks } from '../../src/trace/networks.js';
import type { TraceEnvironment } from '../../src/trace/orchestration.js';
import { PublicIp } from '../../src/trace/public-ip.js';
import type { TraceEngine, TraceEvent, TraceOptions, TraceRun } from '../../src/trace/types.js';
import { hop, run, timerClock } from './fixtures.js';

/** What an engine was asked and how it answers. */
export interface FakeAnswers {
  run?(options: TraceOptions, index: number, signal: AbortSignal): Promise<TraceRun>;
  end?(options: TraceOptions, index: number, signal: AbortSignal): Promise<number>;
}

/** Answers at once unless told otherwise: two hops, the second the destination; 1 ms end to end. */
export class FakeEngine implements TraceEngine {
  readonly runs: TraceOptions[] = [];
  readonly ends: TraceOptions[] = [];
  closed = false;
  /** Runs and probes under way now, and the most there ever were. */
  active = 0;
  most = 0;
  readonly #answers: FakeAnswers;

  constructor(answers: FakeAnswers = {}) {
    this.#answers = answers;
  }

  async *run(options: TraceOptions, signal: AbortSignal): AsyncGenerator<TraceEvent> {
    const index = this.runs.push(options) - 1;
    this.#enter();
    try {
      const done = (await this.#answers.run?.(options, index, signal)) ?? defaultRun(options);
      yield { kind: 'start', source: done.source, destination: done.destination, privilege: done.privilege };
      for (const one of done.hops) yield { kind: 'hop', hop: one };
      yield { kind: 'done', run: done };
    } finally {
      this.active--;
    }
  }

  async probeEnd(options: TraceOptions, signal: AbortSignal): Promise<number> {
    const index = this.ends.push(options) - 1;
    this.#enter();
    try {
      return (await this.#answers.end?.(options, index, signal)) ?? 1;
    } finally {
      this.active--;
    }
  }

  close(): void {
    this.closed = true;
  }

  #enter(): void {
    this.active++;
    this.most = Math.max(this.most, this.active);
  }
}

function defaultRun(options: TraceOptions): TraceRun {
  const port = options.protocol === 'icmp' ? 0 : options.port;
  const last = `${options.destination}`;
  return run([hop(1, '192.0.2.2', 0.213401), hop(2, last, 0.301122)], {
    destination: new SocketAddress(options.destination, port),
  });
}

/** `target.example` and `both.example` have addresses; hops have names and networks. */
export function fakeEnvironment(engine: TraceEngine, more: Partial<TraceEnvironment> = {}): TraceEnvironment {
  const clock = timerClock;
  const entropy = new SeededEntropy(7);
  return {
    engine,
    lookup: async (host) => {
      if (host === 'target.example') return ['198.51.100.2', '198.51.100.3'];
      if (host === 'both.example') return ['2001:db8::2', '198.51.100.2'];
      throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: 'ENOTFOUND' });
    },
    names: new AddressNames(async (address) => [`host-${address.replace(/[.:]/g, '-')}.example`], clock),
    networks: new Networks(
      async (name) =>
        name.includes('origin')
          ? ['64500 | 198.51.100.0/24 | NL | ripencc | 2020-01-01']
          : ['64500 | NL | ripencc | 2020-01-01 | EXAMPLE - Example Networks, NL'],
      clock,
    ),
    publicIp: new PublicIp(async () => ({ status: 200, body: '203.0.113.9\n' }), clock, entropy),
    clock,
    entropy,
    ...more,
  };
}
