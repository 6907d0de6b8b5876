/**
 * The live table: everything a trace (or, watched, one trace after the other) has told so far, drawn over what was drawn before.
 */
import { isPrivate } from '../../trace/compatible.js';
import { PathTable } from '../../trace/format/path-table.js';
import { renderTable } from '../../trace/format/table.js';
import type { TraceStep } from '../../trace/orchestration.js';
import type { NetworkInfo } from '../../trace/result.js';
import type { EndReason, TraceProtocol } from '../../trace/types.js';

/** Drawn this often at most: faster is not seen. */
const FRAME_MS = 100;
/** End-to-end probes that the last line is about. */
const END_HISTORY = 1_000;

export interface Terminal {
  readonly columns: number;
  readonly rows: number;
  write(text: string): void;
}

export interface LiveOptions {
  readonly hostname: string;
  readonly protocol: TraceProtocol;
  readonly skipPrivate: boolean;
  readonly location: boolean;
}

const ENDINGS: Readonly<Record<EndReason, string>> = {
  destination: 'the destination answered',
  unreachable: 'a router says the destination cannot be reached',
  max_ttl: 'the destination did not answer',
  gap_limit: 'ended: too many silent hops in a row',
};

export class LiveTable {
  readonly #options: LiveOptions;
  readonly #terminal: Terminal;
  readonly #table = new PathTable();
  readonly #names = new Map<string, readonly string[]>();
  readonly #networks = new Map<string, NetworkInfo>();
  readonly #failures = new Set<string>();
  #destination: Extract<TraceStep, { kind: 'resolved' }> | undefined;
  #ends: number[] = [];
  /** Where this round's probes start in `#ends`. */
  #round = 0;
  #method: TraceProtocol;
  #ending: EndReason | undefined;
  #unprivileged = false;
  #lines = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: LiveOptions, terminal: Terminal) {
    this.#options = options;
    this.#terminal = terminal;
    this.#method = options.protocol;
  }

  readonly step = (step: TraceStep): void => {
    this.#take(step);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#draw('tracing …', this.#terminal.rows - 1);
    }, FRAME_MS);
  };

  /** Another round starts. */
  again(): void {
    this.#round = this.#ends.length;
    this.#method = this.#options.protocol;
  }

  /** The last picture, as long as it is. @param state instead of how the runs ended. */
  finish(state?: string): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#draw(state ?? this.#conclusion(), Number.POSITIVE_INFINITY);
    this.#lines = 0;
  }

  #take(step: TraceStep): void {
    switch (step.kind) {
      case 'resolved':
        this.#destination = step;
        break;
      case 'hop':
        this.#table.hop(step.run, step.hop);
        break;
      case 'run':
        this.#table.finish(step.run, step.found);
        this.#ending = step.found.reached ? 'destination' : (this.#ending ?? step.found.reason);
        this.#unprivileged ||= step.found.privilege === 'unprivileged';
        break;
      case 'run-failed':
        this.#table.drop(step.run);
        this.#failures.add(step.error.message);
        break;
      case 'probe':
        this.#ends.push(step.rtt);
        if (this.#ends.length <= END_HISTORY) break;
        this.#ends.shift();
        this.#round--;
        break;
      case 'series':
        this.#ends.length = Math.max(0, this.#round);
        this.#method = step.method;
        break;
      case 'names':
        this.#names.set(step.address.toString(), step.names);
        break;
      case 'network':
        this.#networks.set(step.address.toString(), step.network);
        break;
    }
  }

  #conclusion(): string {
    const parts = [this.#ending === undefined ? '' : ENDINGS[this.#ending], ...this.#failures];
    if (this.#unprivileged) parts.push('without raw sockets (not permitted): less is seen');
    return parts.filter((part) => part !== '').join('; ');
  }

  #draw(state: string, most: number): void {
    const { hostname, protocol, location, skipPrivate } = this.#options;
    const lines = renderTable(
      {
        hostname,
        protocol,
        destination: this.#destination,
        rows: this.#table.rows(),
        endToEnd: this.#ends,
        endToEndMethod: this.#method,
        names: this.#names,
        networks: this.#networks,
        location,
        hidden: (ip) => skipPrivate && isPrivate(ip),
        state,
      },
      this.#terminal.columns,
    ).slice(0, Math.max(1, most));
    // Up to where the last picture began, and everything below it away (ECMA-48 CPL and ED).
    const back = this.#lines === 0 ? '' : `\x1b[${this.#lines}F\x1b[J`;
    this.#terminal.write(`${back}${lines.join('\n')}\n`);
    this.#lines = lines.length;
  }
}
