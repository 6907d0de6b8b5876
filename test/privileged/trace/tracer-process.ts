/**
 * The tracer program in a laboratory host: requests go in, results come out.
 */
import { join } from 'node:path';
import { Seconds } from '../../../src/base/time.js';
import type { Host } from '../../lab/host.js';
import type { LabProcess } from '../../lab/process.js';
import { REPOSITORY } from '../../lab/services.js';

const TRACER = join(REPOSITORY, 'test', 'privileged', 'trace', 'programs', 'tracer.mjs');

/** argv of one of the others of `programs/`. */
export const program = (name: string, ...argv: readonly string[]): string[] => [
  process.execPath,
  '--import',
  join(REPOSITORY, 'test', 'lab', 'typescript.mjs'),
  join(REPOSITORY, 'test', 'privileged', 'trace', 'programs', `${name}.ts`),
  ...argv,
];

export interface ShownReply {
  readonly from: string;
  readonly kind: string;
  readonly rtt: number;
  readonly replyTtl?: number;
  readonly isDestination: boolean;
  readonly nat: boolean;
  readonly extensions?: unknown;
}

export interface ShownRun {
  readonly reached: boolean;
  readonly reason: string;
  readonly privilege: string;
  readonly tcpMethod?: string;
  readonly source: { readonly ip: string; readonly port: number };
  readonly hops: readonly {
    readonly ttl: number;
    readonly sent: number;
    readonly mtu?: number;
    readonly rateLimited: boolean;
    readonly replies: readonly ShownReply[];
  }[];
  readonly multipath?: {
    readonly nodes: readonly { readonly ttl: number; readonly address?: string; readonly next: readonly number[] }[];
  };
}

export type Wish = { readonly destination: string } & Readonly<Record<string, unknown>>;

export interface Answered<T> {
  readonly result: T;
  /** Milliseconds of time and of CPU. */
  readonly took: number;
  readonly cpu: number;
}

export class TracerProcess {
  readonly #process: LabProcess;
  #asked = 0;

  /** @param user a uid to become first */
  constructor(host: Host, user?: number) {
    this.#process = host.spawn([process.execPath, TRACER, ...(user === undefined ? [] : [String(user)])], {
      interactive: true,
    });
  }

  async run(wish: Wish): Promise<ShownRun> {
    return (await this.ask<ShownRun>({ run: wish })).result;
  }

  async ask<T>(request: Readonly<Record<string, unknown>>): Promise<Answered<T>> {
    const number = this.#asked++;
    this.#process.write(`${JSON.stringify(request)}\n`);
    const lines = (): string[] => this.#process.stdout.split('\n').slice(0, -1);
    await this.#process.waitFor('result', { timeout: Seconds(60) }, () => (lines().length > number ? true : undefined));
    const answered = JSON.parse(lines()[number]!) as Answered<
      T & { readonly error?: string; readonly message?: string }
    >;
    const { error, message } = answered.result ?? {};
    if (error !== undefined) throw Object.assign(new Error(message), { code: error });
    return answered;
  }
}

/** First answers by TTL, `*` for silence. */
export const addresses = (run: ShownRun): string[] => run.hops.map(({ replies }) => replies[0]?.from ?? '*');
