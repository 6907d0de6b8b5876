/**
 * Logs: JSON lines of pino on standard error, or short text where a person watches a terminal.
 */
import { type DestinationStream, type Level, pino } from 'pino';
import type { Log } from '../base/log.js';

export type LogLevel = Level | 'silent';

interface Line {
  readonly level: number;
  readonly time: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

const LEVELS: Readonly<Record<number, string>> = { 10: 'trace', 20: 'debug', 30: 'info', 40: 'WARN', 50: 'ERROR' };
const PLAIN: ReadonlySet<string> = new Set(['level', 'time', 'msg', 'pid', 'hostname', 'role']);

/** A log whose level may be changed while it is in use. */
export type LevelLog = Log & { level: string };

/** @param pretty text for people instead of JSON. */
export function createLog(role: string, level: LogLevel, pretty: boolean): LevelLog {
  const destination: DestinationStream = pretty
    ? { write: (line) => process.stderr.write(prettyLine(line)) }
    : pino.destination({ fd: 2, sync: true });
  return pino({ level, base: { role } }, destination);
}

function prettyLine(text: string): string {
  const line = JSON.parse(text) as Line;
  const time = new Date(line.time).toISOString().slice(11, 19);
  const fields = Object.entries(line)
    .filter(([name]) => !PLAIN.has(name))
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return `${[time, LEVELS[line.level] ?? '', line.msg, ...fields].join('  ')}\n`;
}
