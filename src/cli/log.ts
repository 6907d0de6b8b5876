/**
 * Logs: JSON lines on standard error, or short text where a person watches a terminal. Written in the moment they are made: what a
 * process says before it dies is not lost, and lines of several writers do not mix.
 *
 *   {"level":30,"time":1732233600000,"role":"agent", …fields…, "msg":"agent started"}      levels are those of bunyan and pino
 */
import { writeSync } from 'node:fs';
import type { Log } from '../base/log.js';

const LEVELS = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, silent: Number.POSITIVE_INFINITY } as const;
export type LogLevel = keyof typeof LEVELS;

const STANDARD_ERROR = 2;
/** A reader that takes nothing may hold up the main thread this often and long; then the line is lost. */
const RETRIES = 100;
const RETRY_MS = 10;

interface Line {
  readonly level: number;
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly role: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

const NAMES: Readonly<Record<number, string>> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'WARN', 50: 'ERROR' };
const PLAIN: ReadonlySet<string> = new Set(['level', 'time', 'msg', 'role']);

/** A log whose level may be changed while it is in use. */
export type LevelLog = Log & { level: LogLevel; trace(fields: object, message: string): void };

/**
 * @param pretty text for people instead of JSON.
 * @param write takes one whole line.
 */
export function createLog(
  role: string,
  level: LogLevel,
  pretty: boolean,
  write: (line: string) => void = writeLine,
): LevelLog {
  const say = (of: number, fields: object, msg: string): void => {
    if (of < LEVELS[log.level]) return;
    const line: Line = { level: of, time: Date.now(), role, ...fields, msg };
    write(pretty ? prettyLine(line) : `${text(line)}\n`);
  };
  const log: LevelLog = {
    level,
    trace: (fields, message) => say(LEVELS.trace, fields, message),
    debug: (fields, message) => say(LEVELS.debug, fields, message),
    info: (fields, message) => say(LEVELS.info, fields, message),
    warn: (fields, message) => say(LEVELS.warn, fields, message),
    error: (fields, message) => say(LEVELS.error, fields, message),
  };
  return log;
}

function text(value: unknown): string {
  return JSON.stringify(value, (_key, field: unknown) => (typeof field === 'bigint' ? Number(field) : field));
}

function prettyLine(line: Line): string {
  const time = new Date(line.time).toISOString().slice(11, 19);
  const fields = Object.entries(line)
    .filter(([name, value]) => !PLAIN.has(name) && value !== undefined)
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : text(value)}`);
  return `${[time, NAMES[line.level] ?? '', line.msg, ...fields].join('  ')}\n`;
}

/** A log that nobody takes any more must not end who writes it. */
function writeLine(line: string): void {
  let rest: Uint8Array = Buffer.from(line);
  for (let retries = 0; rest.length > 0; ) {
    try {
      rest = rest.subarray(writeSync(STANDARD_ERROR, rest));
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EAGAIN' || ++retries > RETRIES) return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    }
  }
}
