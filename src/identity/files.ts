/**
 * Files of a state folder: folder 0700, files 0600, each replaced as a whole or not at all.
 *
 *   write: NAME.tmp-PID (new, fsync) ──rename──► NAME, then fsync of the folder
 */
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type * as v from 'valibot';
import { SallyportError } from '../base/error.js';
import { parseWith } from '../policy/envelope.js';

const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

/** Makes the folder (and its parents) readable by its owner only. @throws SallyportError STATE_UNWRITABLE. */
export function makeFolder(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: FOLDER_MODE });
    chmodSync(dir, FOLDER_MODE);
  } catch (cause) {
    throw unwritable(dir, cause);
  }
}

/** Replaces a file atomically and durably. @throws SallyportError STATE_UNWRITABLE (environment). */
export function writeFile(path: string, data: string | Uint8Array): void {
  const temporary = `${path}.tmp-${process.pid}`;
  try {
    rmSync(temporary, { force: true });
    const fd = openSync(temporary, 'wx', FILE_MODE);
    try {
      const bytes = typeof data === 'string' ? Buffer.from(data) : data;
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
    syncFolder(dirname(path));
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw unwritable(path, cause);
  }
}

/** Makes sure that `bytes` more fit into a folder. @throws SallyportError STATE_UNWRITABLE (environment). */
export function ensureRoom(dir: string, bytes: number): void {
  const path = join(dir, 'room');
  writeFile(path, new Uint8Array(bytes));
  rmSync(path);
}

export function writeJson(path: string, value: unknown): void {
  writeFile(path, `${JSON.stringify(value, null, 2)}\n`);
}

/** @throws SallyportError STATE_UNREADABLE (environment). */
export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new SallyportError(
      'environment',
      'STATE_UNREADABLE',
      `${path} ${missing ? 'is missing' : 'cannot be read'}`,
      {
        cause,
      },
    );
  }
}

/** @throws SallyportError STATE_UNREADABLE (environment): missing, not JSON or not of this schema. */
export function readJson<T>(path: string, schema: v.GenericSchema<unknown, T>): T {
  const text = readText(path);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SallyportError('environment', 'STATE_UNREADABLE', `${path} is not JSON`, { cause });
  }
  try {
    return parseWith(schema, value, 'STATE_UNREADABLE', path);
  } catch (cause) {
    throw new SallyportError('environment', 'STATE_UNREADABLE', (cause as Error).message, { cause });
  }
}

export function has(dir: string, name: string): boolean {
  return existsSync(join(dir, name));
}

/** Makes renames in the folder durable. */
function syncFolder(dir: string): void {
  const fd = openSync(dir, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function unwritable(path: string, cause: unknown): SallyportError {
  return new SallyportError(
    'environment',
    'STATE_UNWRITABLE',
    `${path} cannot be written: ${(cause as Error).message}`,
    {
      cause,
      hint: isFull(cause) ? 'make room on its disk' : 'choose another folder with --dir',
    },
  );
}

function isFull(cause: unknown): boolean {
  const { code } = cause as NodeJS.ErrnoException;
  return code === 'ENOSPC' || code === 'EDQUOT';
}
