/**
 * Logs: JSON lines of pino on standard error, or short text where a person watches a terminal. Written in the moment they are made: what a
 * process says before it dies is not lost.
 *
 *   {"level":30,"time":1732233600000,"role":"agent", …fields…, "msg":"agent started"}
 */
import { writeSync } from 'node:fs';
import { type Level, pino } from 'pino';
import type { Log } from '../base/log.js';

export type LogLevel = Level | 'silent';

const STANDARD_ERROR = 2;
/** A reader that takes nothing may hold up the main thread this often and long; then the line is lost. */
const RETRIES = 100;
const RETRY_MS = 10;

interface Line {
  readonly level: number;
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

const LEVELS: Readonly<Record<number, string>> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'WARN', 50: 'ERROR' };
/** Texts may be a peer's: these would be commands to the terminal, or the line of somebody else. */
const CONTROL = /\p{Cc}/gu;
const PLAIN: ReadonlySet<string> = new Set(['level', 'time', 'msg', 'role']);

/** A log whose level may be changed while it is in use. */
export type LevelLog = Log & { level: string; trace(fields: object, message: string): void };

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
  const destination = pretty ? { write: (line: string) => write(prettyLine(line)) } : { write };
  return pino({ level, base: { role } }, destination);
}

function prettyLine(text: string): string {
  const line = JSON.parse(text) as Line;
  const time = new Date(line.time).toISOString().slice(11, 19);
  const fields = Object.entries(line)
    .filter(([name]) => !PLAIN.has(name))
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return `${[time, LEVELS[line.level] ?? '', line.msg, ...fields].join('  ').replace(CONTROL, escaped)}\n`;
}

function escaped(control: string): string {
  return `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`;
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
