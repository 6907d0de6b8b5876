/**
 * The configuration of a role: flags over environment over file over defaults, checked as one object. A value that does not
 * validate is named with its key, what it is, where it was given and what is allowed, and nothing starts.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import stripJsonComments from 'strip-json-comments';
import * as v from 'valibot';
import { SallyportError } from '../base/error.js';
import { CONFIG_VARIABLE, FILE_ONLY, readEnvironment, variableOf } from './key-text.js';
import { nearest } from './nearest.js';
import { shapeOf } from './schema-shape.js';
import { stateFolder } from './state-folder.js';

/** Permission bits of everybody but the owner. */
const OTHERS = 0o077;

/** Values of a configuration before the checks, from flags or environment; undefined ones are not given. */
export type Given = Readonly<Record<string, unknown>>;

/**
 * The role's configuration.
 * @param file the path given with `--config`; without it the places of the search path that exist are tried in order.
 * @throws SallyportError CONFIG_UNREADABLE, CONFIG_NOT_JSON, CONFIG_PERMISSIONS or CONFIG_INVALID, all of kind `caller`.
 */
export function loadConfig<S extends v.GenericSchema>(
  schema: S,
  role: string,
  file: string | undefined,
  flags: Given,
  environment: NodeJS.ProcessEnv,
): v.InferOutput<S> & { readonly dir: string } {
  const fromEnvironment = readEnvironment(schema, environment);
  const dir = stateFolder(flags['dir'] ?? fromEnvironment['dir'], environment);
  const path = (file ?? environment[CONFIG_VARIABLE]) || searchPath(dir, role).find((one) => existsSync(one));
  const fromFile = path === undefined ? {} : readConfigFile(path);
  const byFlag = given(flags);
  const merged: Record<string, unknown> = { dir, ...fromFile, ...fromEnvironment, ...byFlag };
  const result = v.safeParse(schema, merged);
  if (result.success) return result.output as v.InferOutput<S> & { readonly dir: string };
  const known = Object.keys(shapeOf(schema).entries!);
  const source = (key: string): string =>
    key in byFlag ? '' : key in fromEnvironment ? ` (${variableOf(key)})` : path === undefined ? '' : ` (file ${path})`;
  const problems = result.issues.map((issue) => describeIssue(issue, known, source));
  throw new SallyportError('caller', 'CONFIG_INVALID', `Configuration does not validate: ${problems.join('; ')}`);
}

/** One problem: key, value, where it was given, what is allowed. Values of keys for files only are not shown. */
function describeIssue(issue: v.BaseIssue<unknown>, known: readonly string[], source: (key: string) => string): string {
  const path = (issue.path ?? []).map((item) => String(item.key));
  const top = path[0] ?? 'configuration';
  if (issue.type === 'strict_object') {
    const meant = nearest(top, known);
    const advice = meant === undefined ? `known are ${known.join(', ')}` : `did you mean ${meant}?`;
    return `${top}: unknown key${source(top)}; ${advice}`;
  }
  const isSecret = FILE_ONLY.has(top) || (top === 'proxy' && String(issue.input).includes('@'));
  const value = isSecret ? '…' : JSON.stringify(issue.input);
  return `${path.join('.')} = ${value}${source(top)}: ${issue.message}`;
}

function searchPath(dir: string, role: string): string[] {
  return ['./sallyport.json', join(dir, 'sallyport.json'), `/etc/sallyport/${role}.json`];
}

function readConfigFile(path: string): Given {
  let content: string;
  try {
    content = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new SallyportError('caller', 'CONFIG_UNREADABLE', `Cannot read the configuration file ${path}`, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(stripJsonComments(content, { trailingCommas: true }));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SallyportError('caller', 'CONFIG_NOT_JSON', `The configuration file ${path} is not JSON: ${why}`, {
      cause,
    });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SallyportError('caller', 'CONFIG_NOT_JSON', `The configuration file ${path} does not hold one object`);
  }
  if (holdsSecrets(value as Given)) requirePrivate(path);
  return value as Given;
}

function holdsSecrets(values: Given): boolean {
  const { users, proxy } = values;
  if (typeof proxy === 'string' && proxy.includes('@')) return true;
  return typeof users === 'object' && users !== null && Object.keys(users).length > 0;
}

function requirePrivate(path: string): void {
  if ((statSync(path).mode & OTHERS) === 0) return;
  throw new SallyportError('caller', 'CONFIG_PERMISSIONS', `${path} holds passwords and others may read it`, {
    hint: `chmod 600 ${path}`,
  });
}

function given(values: Given): Given {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
