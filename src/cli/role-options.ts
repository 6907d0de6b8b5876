/** The options every role takes, and its configuration as it is at the start and at every reload. */
import type { Command } from 'commander';
import type * as v from 'valibot';
import type { DirectSettings } from '../node/thread-setup.js';
import type { CommandContext } from './context.js';
import { hasOurVariables, mistypedVariables } from './key-text.js';
import { type Given, loadConfig } from './load-config.js';
import type { LevelLog, LogLevel } from './log.js';
import type { ConfigRole } from './role-configs.js';

/** Flags of every role, as commander names them. */
export interface RoleFlags {
  readonly config?: string;
  readonly dir?: string;
  readonly logLevel?: string;
  readonly exitAfter?: string;
}

/** An option that may be given several times. */
export const many = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];

export function addRoleOptions(command: Command): Command {
  return command
    .option('--config <file>', 'configuration file (docs/cli.md says where it is looked for)')
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent (default info)')
    .option('--exit-after <duration>', 'end in an orderly way after this time, for example 30s');
}

/** Flags of agent and connector about direct links. */
export interface DirectFlags {
  readonly path?: string;
  readonly relayTcp?: string;
  readonly hideHostCandidates?: boolean;
  readonly peerPrefix?: string[];
  readonly advertise?: string[];
  /** commander's true for a `--no-…` that was not given. */
  readonly portMapping?: boolean;
  readonly portGuessing?: boolean;
}

export function addDirectOptions(command: Command): Command {
  return command
    .option('--path <path>', 'which links carry packets: auto (direct ones when there are), relay or direct')
    .option('--relay-tcp <when>', 'the relay over TCP: auto (while UDP does not reach it) or never')
    .option('--hide-host-candidates', 'do not tell peers the addresses of this host’s interfaces')
    .option('--peer-prefix <prefix>', 'private prefix behind the default route where peers may be', many)
    .option('--advertise <address:port>', 'where peers reach this node besides, for example a forwarded port', many)
    .option('--no-port-guessing', 'do not guess ports to get through symmetric NATs (256 sockets or 1,000 packets)')
    .option('--no-port-mapping', 'do not ask the gateway for a public port (PCP, NAT-PMP, UPnP)');
}

/** Flags that are there as `--no-…` only: a configuration file may say otherwise where they were not given. */
export function switchedOff({
  portMapping,
  portGuessing,
}: DirectFlags): Record<'portMapping' | 'portGuessing', false | undefined> {
  const off = (flag: boolean | undefined) => (flag === false ? false : undefined);
  return { portMapping: off(portMapping), portGuessing: off(portGuessing) };
}

/** What the packet thread is told of it. */
export function directSettings(config: {
  readonly path: DirectSettings['path'];
  readonly hideHostCandidates: boolean;
  readonly portGuessing: boolean;
  readonly peerPrefixes: readonly string[];
  readonly advertise: readonly string[];
}): DirectSettings {
  const { path, hideHostCandidates: hideHost, portGuessing: guesses, peerPrefixes: allow, advertise } = config;
  return { path, hideHost, guesses, allow, advertise };
}

/** What every role's configuration holds. */
interface Common {
  readonly dir: string;
  readonly logLevel: LogLevel;
  readonly exitAfter?: string | undefined;
}

/** A role's configuration: read at the start, and again when the role is told to. */
export class LiveConfig<S extends v.GenericSchema, T extends v.InferOutput<S> & Common> {
  current: T;
  readonly #read: () => T;
  readonly #live: ReadonlySet<string>;

  /**
   * @param flags by configuration key.
   * @param live the keys that a reload may change.
   * @throws SallyportError those of `loadConfig`.
   */
  static async read<S extends v.GenericSchema, T extends v.InferOutput<S> & Common>(
    schema: S,
    role: ConfigRole,
    file: string | undefined,
    flags: Given,
    live: readonly (keyof T & string)[],
    context: CommandContext,
  ): Promise<LiveConfig<S, T>> {
    await warnOfMistyped(context);
    const { environment } = context;
    return new LiveConfig<S, T>(() => loadConfig(schema, role, file, flags, environment) as T, live);
  }

  private constructor(read: () => T, live: readonly (keyof T & string)[]) {
    this.#read = read;
    this.#live = new Set([...live, 'logLevel']);
    this.current = read();
  }

  /**
   * Reads everything again and hands it to `apply`; what it throws leaves the old configuration in force. Keys that cannot
   * change while the role runs keep their old values, and are logged.
   * @throws SallyportError those of `loadConfig`.
   */
  async reload(log: LevelLog, apply: (next: T, before: T) => Promise<void>): Promise<void> {
    const read = this.#read() as Record<string, unknown>;
    const before = this.current as Record<string, unknown>;
    const fixed = Object.keys({ ...before, ...read }).filter(
      (key) => !this.#live.has(key) && JSON.stringify(read[key]) !== JSON.stringify(before[key]),
    );
    const next = { ...read, ...Object.fromEntries(fixed.map((key) => [key, before[key]])) } as T;
    await apply(next, this.current);
    this.current = next;
    log.level = next.logLevel;
    if (fixed.length > 0) log.warn({ keys: fixed }, 'these keys count from the next start');
    log.info({}, 'configuration reloaded');
  }
}

/** Variables may be meant for any role, so all of them say what is known; only where there are any. */
async function warnOfMistyped({ environment, note }: CommandContext): Promise<void> {
  if (!hasOurVariables(environment)) return;
  const { ROLE_CONFIGS } = await import('./role-configs.js');
  for (const [name, meant] of mistypedVariables(Object.values(ROLE_CONFIGS), environment)) {
    note(`warning: ${name} means nothing; did you mean ${meant}?`);
  }
}
