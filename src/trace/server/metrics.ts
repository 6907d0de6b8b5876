/** What the trace server counts, in Prometheus' text format (version 0.0.4). */
import type { TraceResult } from '../result.js';

/** Upper bounds in seconds: a trace takes a second where everything answers, five where nothing does. */
const BUCKETS = [0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30, 60];

export interface Gauges {
  readonly running: number;
  readonly waiting: number;
}

export class TraceMetrics {
  /** Answers to /traceroute by HTTP status. */
  readonly #answers = new Map<number, number>();
  readonly #buckets = new Array<number>(BUCKETS.length).fill(0);
  #seconds = 0;
  #traces = 0;
  #runs = 0;
  #reached = 0;
  #probes = 0;
  #lost = 0;
  #cancelled = 0;

  answered(status: number): void {
    this.#answers.set(status, (this.#answers.get(status) ?? 0) + 1);
  }

  /** The client went away before there was an answer. */
  cancelled(): void {
    this.#cancelled++;
  }

  traced(result: TraceResult, seconds: number): void {
    this.#traces++;
    this.#seconds += seconds;
    const bucket = BUCKETS.findIndex((bound) => seconds <= bound);
    if (bucket >= 0) this.#buckets[bucket]!++;
    this.#runs += result.runs.length;
    this.#reached += result.runs.filter(({ run }) => run.reached).length;
    this.#probes += result.endToEnd.rtts.length;
    this.#lost += result.endToEnd.rtts.filter((rtt) => rtt === 0).length;
  }

  render({ running, waiting }: Gauges): string {
    const lines = [
      ...family('requests_total', 'counter', 'Answers to /traceroute by HTTP status.'),
      ...[...this.#answers]
        .sort(([a], [b]) => a - b)
        .map(([status, n]) => sample('requests_total', n, `{status="${status}"}`)),
      ...single('cancelled_total', 'counter', 'Requests whose client went away.', this.#cancelled),
      ...single('running', 'gauge', 'Traces under way.', running),
      ...single('waiting', 'gauge', 'Requests waiting for their turn.', waiting),
      ...single('runs_total', 'counter', 'Traceroutes done.', this.#runs),
      ...single('runs_reached_total', 'counter', 'Traceroutes whose destination answered.', this.#reached),
      ...single('e2e_probes_total', 'counter', 'End-to-end probes sent.', this.#probes),
      ...single('e2e_probes_lost_total', 'counter', 'End-to-end probes without an answer.', this.#lost),
      ...family('duration_seconds', 'histogram', 'How long successful traces took.'),
      ...this.#histogram(),
    ];
    return `${lines.join('\n')}\n`;
  }

  #histogram(): string[] {
    let below = 0;
    const lines = BUCKETS.map((bound, i) => {
      below += this.#buckets[i]!;
      return sample('duration_seconds_bucket', below, `{le="${bound}"}`);
    });
    return [
      ...lines,
      sample('duration_seconds_bucket', this.#traces, '{le="+Inf"}'),
      sample('duration_seconds_sum', this.#seconds),
      sample('duration_seconds_count', this.#traces),
    ];
  }
}

function single(name: string, type: string, help: string, value: number): string[] {
  return [...family(name, type, help), sample(name, value)];
}

function family(name: string, type: string, help: string): string[] {
  return [`# HELP sallyport_trace_${name} ${help}`, `# TYPE sallyport_trace_${name} ${type}`];
}

function sample(name: string, value: number, labels = ''): string {
  return `sallyport_trace_${name}${labels} ${value}`;
}
