/**
 * Configuration of a role: flags over environment over file over defaults, checked as one object. A value that does not
 * validate is named with its key, what it is and what is allowed, and nothing starts.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import stripJsonComments from 'strip-json-comments';
import * as v from 'valibot';
import { parseForward } from '../agent/proxy/forward.js';
import { SocketAddress } from '../base/address.js';
import { SallyportError } from '../base/error.js';
import { SERVICE_ID } from '../tunnel/messages.js';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;

const address = v.pipe(
  v.string(),
  v.check(
    (text) => SocketAddress.parse(text) !== undefined,
    'must be ADDRESS:PORT, for example 127.0.0.1:1080 or [::1]:1080',
  ),
);
const text = v.pipe(v.string(), v.nonEmpty('must not be empty'));
const common = {
  dir: v.optional(text),
  logLevel: v.optional(v.picklist(LOG_LEVELS, `must be one of ${LOG_LEVELS.join(', ')}`), 'info'),
};
const joining = { join: v.optional(text), joinFile: v.optional(text) };
/** A whole or broken number of seconds, at most `max`. */
const seconds = (max: number) =>
  v.pipe(
    v.number(`must be a number of seconds, 0 … ${max}`),
    v.check((value) => value >= 0 && value <= max, `must be a number of seconds, 0 … ${max}`),
  );
const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65535));

export const RelayConfig = v.strictObject({
  ...common,
  listen: v.optional(v.array(address), ['0.0.0.0:4433', '[::]:4433']),
  control: v.optional(address, '0.0.0.0:8443'),
  allowOperatorKey: v.optional(v.boolean(), false),
  drain: v.optional(seconds(3600), 3),
});
export type RelayConfig = v.InferOutput<typeof RelayConfig>;

export const ConnectorConfig = v.strictObject({
  ...common,
  ...joining,
  port: v.optional(port, 0),
  services: v.optional(
    v.record(
      v.pipe(v.string(), v.regex(SERVICE_ID, 'a service id is one lower-case DNS label of 1–63 characters')),
      text,
    ),
    {},
  ),
});
export type ConnectorConfig = v.InferOutput<typeof ConnectorConfig>;

export const AgentConfig = v.strictObject({
  ...common,
  ...joining,
  port: v.optional(port, 0),
  mode: v.optional(v.picklist(['auto', 'tun', 'proxy'], 'must be auto, tun or proxy'), 'auto'),
  tun: v.optional(
    v.pipe(v.string(), v.regex(/^[A-Za-z0-9_.-]{1,15}$/, 'must be an interface name of 1–15 characters')),
    'sallyport0',
  ),
  socks: v.optional(v.union([address, v.literal('off')]), '127.0.0.1:1080'),
  http: v.optional(v.union([address, v.literal('off')]), '127.0.0.1:8118'),
  forwards: v.optional(
    v.array(v.pipe(v.string(), v.check(isForward, 'must be LISTEN=SERVICE[:PORT], for example 127.0.0.1:8080=web:80'))),
    [],
  ),
});
export type AgentConfig = v.InferOutput<typeof AgentConfig>;

/** Values of a configuration before the checks, from flags or environment; undefined ones are not given. */
export type Given = Readonly<Record<string, unknown>>;

/**
 * The role's configuration.
 * @param file the path given with `--config`; without it the places of the search path that exist are tried in order.
 * @throws SallyportError CONFIG_UNREADABLE, CONFIG_NOT_JSON or CONFIG_INVALID, all of kind `caller`.
 */
export function loadConfig<S extends v.GenericSchema>(
  schema: S,
  role: string,
  file: string | undefined,
  flags: Given,
  environment: NodeJS.ProcessEnv,
): v.InferOutput<S> {
  const fromEnvironment = readEnvironment(schema, environment);
  const dir = stateFolder(flags['dir'] ?? fromEnvironment['dir'], environment);
  const path = file ?? searchPath(dir, role).find((one) => existsSync(one));
  const fromFile = path === undefined ? {} : readConfigFile(path);
  const merged: Record<string, unknown> = { ...fromFile, ...given(fromEnvironment), ...given(flags) };
  merged['dir'] ??= dir;
  const result = v.safeParse(schema, merged);
  if (result.success) return result.output;
  const problems = result.issues.map((issue) => {
    const key = v.getDotPath(issue) ?? 'configuration';
    const value = issue.input === undefined ? 'missing' : JSON.stringify(issue.input);
    return issue.type === 'strict_object' ? `${key}: unknown key` : `${key} = ${value}: ${issue.message}`;
  });
  const from = path === undefined ? '' : ` (file ${path})`;
  throw new SallyportError(
    'caller',
    'CONFIG_INVALID',
    `Configuration does not validate${from}: ${problems.join('; ')}`,
  );
}

/** `--dir`, `SALLYPORT_DIR`, else the system's place for state of this user. */
export function stateFolder(flag: unknown, environment: NodeJS.ProcessEnv): string {
  if (typeof flag === 'string' && flag !== '') return flag;
  const variable = environment['SALLYPORT_DIR'];
  if (variable !== undefined && variable !== '') return variable;
  if (process.getuid?.() === 0) return '/var/lib/sallyport';
  const state = environment['XDG_STATE_HOME'] || join(environment['HOME'] ?? '.', '.local', 'state');
  return join(state, 'sallyport');
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
  return value as Given;
}

/** `SALLYPORT_LOG_LEVEL` for `logLevel`, and so on for every key of the schema; lists are separated by commas. */
function readEnvironment(schema: v.GenericSchema, environment: NodeJS.ProcessEnv): Record<string, unknown> {
  const entries = (schema as unknown as { entries: Record<string, { wrapped?: { type: string }; type: string }> })
    .entries;
  const result: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(entries)) {
    const name = `SALLYPORT_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
    const value = environment[name];
    if (value === undefined || value === '') continue;
    const type = entry.wrapped?.type ?? entry.type;
    if (type === 'array') result[key] = value.split(',');
    else if (type === 'number') result[key] = Number(value);
    else if (type === 'boolean') result[key] = value === 'true' || value === '1';
    else if (type === 'record') result[key] = Object.fromEntries(value.split(',').map((one) => splitPair(one)));
    else result[key] = value;
  }
  return result;
}

/** `KEY=VALUE` as a pair; the value may hold further equals signs. */
export function splitPair(text: string): [string, string] {
  const at = text.indexOf('=');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

function isForward(text: string): boolean {
  try {
    parseForward(text);
    return true;
  } catch {
    return false;
  }
}

function given(values: Given): Given {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
