/**
 * Values of configuration keys as texts: on the command line and in the environment.
 *
 *   SALLYPORT_LOG_LEVEL for logLevel, and so on · lists: A,B · objects: KEY=VALUE,KEY=VALUE · numbers: decimal · true, false, 1, 0
 *
 * A text that cannot be what its key wants stays a text, so that the message about it shows what was written.
 */
import type * as v from 'valibot';
import { nearest } from './nearest.js';
import { type Shape, shapeOf, unwrapped } from './schema-shape.js';

const PREFIX = 'SALLYPORT_';
/** Stands for `--config`. */
export const CONFIG_VARIABLE = 'SALLYPORT_CONFIG';
/** Keys that are for files only: a password in the environment is readable by whoever may look at the process. */
export const FILE_ONLY: ReadonlySet<string> = new Set(['users', '$schema']);

/** The variable of a key. */
export function variableOf(key: string): string {
  return `${PREFIX}${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** What the environment says of the schema's keys; empty variables count as absent. */
export function readEnvironment(schema: v.GenericSchema, environment: NodeJS.ProcessEnv): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(shapeOf(schema).entries!)) {
    const value = environment[variableOf(key)];
    if (value === undefined || value === '' || FILE_ONLY.has(key)) continue;
    result[key] = fromText(unwrapped(entry), value);
  }
  return result;
}

/** Whether there is any variable with our prefix. */
export function hasOurVariables(environment: NodeJS.ProcessEnv): boolean {
  return Object.keys(environment).some((name) => name.startsWith(PREFIX));
}

/**
 * Variables that look like a mistyped one of these schemas, each with the one it is taken for.
 * Others with our prefix may be somebody else's and are let be.
 */
export function mistypedVariables(
  schemas: readonly v.GenericSchema[],
  environment: NodeJS.ProcessEnv,
): readonly (readonly [string, string])[] {
  const known = [...new Set(schemas.flatMap((schema) => Object.keys(shapeOf(schema).entries!)))]
    .filter((key) => !FILE_ONLY.has(key))
    .map(variableOf)
    .concat(CONFIG_VARIABLE);
  return Object.keys(environment)
    .filter((name) => name.startsWith(PREFIX) && !known.includes(name))
    .flatMap((name) => {
      const meant = nearest(name.slice(PREFIX.length), known.map(withoutPrefix));
      return meant === undefined ? [] : [[name, `${PREFIX}${meant}`] as const];
    });
}

/** A number as it is written on the command line; anything else stays as it is. */
export function numberText(text: string | undefined): number | string | undefined {
  return text !== undefined && /^-?\d{1,15}(?:\.\d{1,15})?$/.test(text) ? Number(text) : text;
}

/** `KEY=VALUE` as a pair; the value may hold further equals signs. */
export function splitPair(text: string): [string, string] {
  const at = text.indexOf('=');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

function withoutPrefix(name: string): string {
  return name.slice(PREFIX.length);
}

function fromText(shape: Shape, text: string): unknown {
  switch (shape.type) {
    case 'array':
      return text.split(',').map((one) => one.trim());
    case 'number':
      return numberText(text);
    case 'boolean':
      return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text;
    case 'record':
      return Object.fromEntries(text.split(',').map((one) => splitPair(one.trim())));
    default:
      return text;
  }
}
