/** Where a role's configuration comes from, and what is said of a wrong one. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AgentConfig, ConnectorConfig, RelayConfig } from '../../src/cli/config.js';
import { FILE_ONLY, mistypedVariables, variableOf } from '../../src/cli/key-text.js';
import { loadConfig } from '../../src/cli/load-config.js';
import { ROLE_CONFIGS } from '../../src/cli/role-configs.js';
import { shapeOf } from '../../src/cli/schema-shape.js';
import { Tun2socksConfig } from '../../src/cli/tun2socks-config.js';

/** Every key with a value for the file, one for the environment (as text and as what it means), and one for a flag. */
interface Sample {
  readonly file: unknown;
  readonly variable: string;
  readonly fromVariable: unknown;
  readonly flag: unknown;
}
const sample = (file: unknown, variable: string, flag: unknown, fromVariable: unknown = variable): Sample => ({
  file,
  variable,
  fromVariable,
  flag,
});
const COMMON = {
  dir: sample('/file', '/variable', '/flag'),
  logLevel: sample('warn', 'error', 'debug'),
  exitAfter: sample('1s', '2m', '3h'),
};
const JOINING = {
  join: sample('file', 'variable', 'flag'),
  joinFile: sample('/file', '/variable', '/flag'),
  port: sample(1, '2', 3, 2),
};
const DIRECT = {
  path: sample('relay', 'direct', 'auto'),
  hideHostCandidates: sample(true, 'false', true, false),
  portMapping: sample(false, 'true', false, true),
  portGuessing: sample(false, 'true', false, true),
  relayTcp: sample('never', 'auto', 'never'),
  peerPrefixes: sample(['10.0.0.0/8'], '10.1.0.0/16,fd00::/8', ['10.2.0.0/16'], ['10.1.0.0/16', 'fd00::/8']),
  advertise: sample(
    ['192.0.2.1:1'],
    '192.0.2.1:2,[2001:db8::1]:2',
    ['192.0.2.1:3'],
    ['192.0.2.1:2', '[2001:db8::1]:2'],
  ),
};

const SAMPLES = {
  relay: {
    ...COMMON,
    listen: sample(['0.0.0.0:1'], '0.0.0.0:2, [::]:2', ['[::]:3'], ['0.0.0.0:2', '[::]:2']),
    control: sample('0.0.0.0:1', '0.0.0.0:2', '0.0.0.0:3'),
    allowOperatorKey: sample(true, 'false', true, false),
    probePort: sample(1, '2', 3, 2),
    drain: sample(1, '2.5', 3, 2.5),
    channelBytes: sample(1, '2', 3, 2),
    channelPackets: sample(1, '2', 3, 2),
    agentBytes: sample(1, '2', 3, 2),
    agentPackets: sample(1, '2', 3, 2),
    connectorBytes: sample(1, '2', 3, 2),
    connectorPackets: sample(1, '2', 3, 2),
  },
  connector: {
    ...COMMON,
    ...JOINING,
    ...DIRECT,
    mode: sample('engine', 'kernel', 'engine', 'kernel'),
    tun: sample('a0', 'b0', 'c0', 'b0'),
    services: sample(
      { web: 'tcp://10.0.0.1:1' },
      'web=tcp://10.0.0.2:2,db=tcp://10.0.0.2:3',
      { web: 'tcp://10.0.0.3:3' },
      { web: 'tcp://10.0.0.2:2', db: 'tcp://10.0.0.2:3' },
    ),
  },
  agent: {
    ...COMMON,
    ...JOINING,
    ...DIRECT,
    mode: sample('tun', 'proxy', 'auto'),
    tun: sample('file0', 'variable0', 'flag0'),
    socks: sample('127.0.0.1:1', '127.0.0.1:2', 'off'),
    http: sample('off', '[::1]:2', '127.0.0.1:3'),
    forwards: sample(['1=web'], '2=web:80,udp://2=dns', ['3=web'], ['2=web:80', 'udp://2=dns']),
    allow: sample(['10.0.0.0/8'], '10.1.0.0/16,fd00::/8', ['10.2.0.0/16'], ['10.1.0.0/16', 'fd00::/8']),
  },
} as const;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-config-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const write = (content: unknown, mode = 0o644, path = join(folder, 'c.json')): string => {
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  chmodSync(path, mode);
  return path;
};
const message = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('nothing was refused');
};

describe.each(Object.entries(SAMPLES))('the configuration of a %s', (role, keys) => {
  const schema = ROLE_CONFIGS[role as keyof typeof ROLE_CONFIGS];
  const load = (file: string | undefined, flags: object, environment: NodeJS.ProcessEnv): Record<string, unknown> =>
    loadConfig(schema, role, file, { ...flags }, environment) as Record<string, unknown>;

  it('has every key of its schema here', () => {
    const known = Object.keys(shapeOf(schema).entries!).filter((key) => !FILE_ONLY.has(key));
    expect(Object.keys(keys).sort()).toEqual(known.sort());
  });

  it.each(Object.entries(keys))('takes %s from flag, environment, file, default, in this order', (key, one) => {
    const environment = { [variableOf(key)]: one.variable };
    const empty = write({});
    const file = write({ [key]: one.file }, 0o644, join(folder, 'key.json'));
    const byDefault = load(empty, {}, {})[key];
    expect(load(file, {}, {})[key]).toEqual(one.file);
    expect(load(file, {}, environment)[key]).toEqual(one.fromVariable);
    expect(load(empty, {}, environment)[key]).toEqual(one.fromVariable);
    expect(load(file, { [key]: one.flag }, environment)[key]).toEqual(one.flag);
    expect(load(empty, { [key]: one.flag }, {})[key]).toEqual(one.flag);
    // Empty variables and flags that were not given say nothing.
    expect(load(file, { [key]: undefined }, { [variableOf(key)]: '' })[key]).toEqual(one.file);
    expect(load(empty, {}, {})[key]).toEqual(byDefault);
  });

  it.each(Object.keys(keys))('names %s, its value and what is allowed when it is wrong', (key) => {
    for (const wrong of [[1], { a: 1 }, null]) {
      if (key === 'services' && !Array.isArray(wrong) && wrong !== null) continue;
      const text = message(() => load(write({ [key]: wrong }), {}, {}));
      expect(text).toContain(`${key}`);
      expect(text).toMatch(/ = .* \(file .*c\.json\): must be /);
    }
  });
});

describe('a wrong value', () => {
  const agent = (file: object, flags: object = {}, environment: NodeJS.ProcessEnv = {}): string =>
    message(() => loadConfig(AgentConfig, 'agent', write(file), { ...flags }, environment));

  it.each([
    [{ port: 70_000 }, 'port = 70000 (file '],
    [{ port: 1.5 }, 'must be a whole number from 0 to 65535'],
    [{ mode: 'magic' }, 'mode = "magic"'],
    [{ mode: 'magic' }, 'must be one of auto, tun, proxy'],
    [{ socks: '127.0.0.1' }, 'socks = "127.0.0.1"'],
    [{ socks: '127.0.0.1' }, 'or off'],
    [{ tun: 'a name that is far too long' }, 'must be an interface name of 1–15 characters'],
    [{ forwards: ['80=web', 'nonsense'] }, 'forwards.1 = "nonsense"'],
    [{ forwards: ['icmp://80=web'] }, 'must be [tcp://|udp://]LISTEN=SERVICE[:PORT]'],
    [{ allow: ['10.0.0.0/33'] }, 'allow.0 = "10.0.0.0/33"'],
    [{ logLevel: 'loud' }, 'must be one of trace, debug, info, warn, error, silent'],
    [{ exitAfter: '30' }, 'must be a number with ms, s, m, h or d'],
    [{ exitAfter: '25d' }, 'at most 24d'],
    [{ dir: '' }, 'dir = ""'],
  ])('%j is told as %s', (file, text) => {
    expect(agent(file)).toContain(text);
  });

  it('is told with where it was given', () => {
    expect(agent({ port: 1 }, {}, { SALLYPORT_PORT: 'many' })).toContain('port = "many" (SALLYPORT_PORT): must be');
    expect(agent({ port: 1 }, { port: 99_999 }, {})).toContain('port = 99999: must be');
  });

  it('is told for all of them at once', () => {
    expect(agent({ port: -1, mode: 'x' })).toMatch(/port = -1.*; .*mode = "x"|mode = "x".*; .*port = -1/);
  });

  it('of a service is told by its id', () => {
    const load = (services: object) => () => loadConfig(ConnectorConfig, 'connector', write({ services }), {}, {});
    expect(message(load({ web: 'ftp://10.0.0.1' }))).toContain('services.web = "ftp://10.0.0.1"');
    expect(message(load({ Web: 'tcp://10.0.0.1:1' }))).toContain('services.Web = "Web"');
  });

  it('of a relay’s switch is told', () => {
    const load = () => loadConfig(RelayConfig, 'relay', write({}), {}, { SALLYPORT_ALLOW_OPERATOR_KEY: 'yes' });
    expect(message(load)).toContain('allowOperatorKey = "yes" (SALLYPORT_ALLOW_OPERATOR_KEY): must be true or false');
  });
});

describe('an unknown key', () => {
  it.each([
    ['lissten', RelayConfig, 'lissten: unknown key'],
    ['lissten', RelayConfig, 'did you mean listen?'],
    ['loglevel', AgentConfig, 'did you mean logLevel?'],
    ['forward', AgentConfig, 'did you mean forwards?'],
    ['colour', AgentConfig, 'known are $schema, dir'],
  ])('%s is refused', (key, schema, text) => {
    const load = () => loadConfig(schema, 'x', write({ [key]: 1 }), {}, {});
    expect(message(load)).toContain(text);
    expect(load).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID', kind: 'caller' }));
  });

  it('of the environment is told only when it is near one of ours', () => {
    const found = mistypedVariables(Object.values(ROLE_CONFIGS), {
      SALLYPORT_LOGLEVEL: 'info',
      SALLYPORT_SOCKS: 'off',
      SALLYPORT_PROGRAM: '/x',
      PATH: '/bin',
    });
    expect(found).toEqual([['SALLYPORT_LOGLEVEL', 'SALLYPORT_LOG_LEVEL']]);
  });
});

describe('the file', () => {
  const from = (environment: NodeJS.ProcessEnv, flags: object = {}, file?: string): unknown =>
    loadConfig(AgentConfig, 'agent', file, { ...flags }, environment).tun;

  it('is the one that is named, else the first of the search path', () => {
    const before = process.cwd();
    const [here, dir] = [join(folder, 'here'), join(folder, 'state')];
    mkdirSync(here);
    mkdirSync(dir);
    process.chdir(here);
    try {
      expect(from({}, { dir })).toBe('sallyport0');
      write({ tun: 'state0' }, 0o644, join(dir, 'sallyport.json'));
      expect(from({}, { dir })).toBe('state0');
      expect(from({ SALLYPORT_DIR: dir })).toBe('state0');
      write({ tun: 'here0' }, 0o644, join(here, 'sallyport.json'));
      expect(from({}, { dir })).toBe('here0');
      const named = write({ tun: 'named0' });
      expect(from({ SALLYPORT_CONFIG: named }, { dir })).toBe('named0');
      expect(from({ SALLYPORT_CONFIG: '/none' }, { dir }, named)).toBe('named0');
    } finally {
      process.chdir(before);
    }
  });

  it('may have comments and trailing commas', () => {
    expect(from({}, {}, write('{\n// a comment\n"tun": "x0", /* another */ }'))).toBe('x0');
  });

  it.each([
    ['{', 'is not JSON'],
    ['[]', 'does not hold one object'],
    ['"x"', 'does not hold one object'],
  ])('%s is refused', (content, text) => {
    const load = () => from({}, {}, write(content));
    expect(message(load)).toContain(text);
    expect(load).toThrow(expect.objectContaining({ code: 'CONFIG_NOT_JSON', kind: 'caller' }));
  });

  it('that is not there is refused', () => {
    expect(() => from({}, {}, join(folder, 'none.json'))).toThrow(
      expect.objectContaining({ code: 'CONFIG_UNREADABLE', kind: 'caller' }),
    );
  });
});

describe('users', () => {
  const users = { ann: 'a secret' };

  it('are taken from a file that only its owner may read', () => {
    expect(loadConfig(AgentConfig, 'agent', write({ users }, 0o600), {}, {}).users).toEqual(users);
    for (const mode of [0o640, 0o604, 0o620]) {
      expect(() => loadConfig(AgentConfig, 'agent', write({ users }, mode), {}, {})).toThrow(
        expect.objectContaining({ code: 'CONFIG_PERMISSIONS', kind: 'caller' }),
      );
    }
  });

  it('are not taken from the environment', () => {
    expect(loadConfig(AgentConfig, 'agent', write({}), {}, { SALLYPORT_USERS: 'ann=x' }).users).toEqual({});
  });

  it('that are wrong are refused without being shown', () => {
    for (const wrong of [{ ann: '' }, { ann: 'secret'.repeat(100) }, { 'a:b': 'secret' }, { ann: ['secret'] }]) {
      const text = message(() => loadConfig(AgentConfig, 'agent', write({ users: wrong }, 0o600), {}, {}));
      expect(text).toContain('users');
      expect(text).not.toContain('secret');
    }
  });
});

describe('a proxy with a password', () => {
  const load = (proxy: string, mode = 0o600) =>
    loadConfig(Tun2socksConfig, 'tun2socks', write({ proxy }, mode), {}, {}).proxy;

  it('is taken from a file that only its owner may read', () => {
    expect(load('socks5://ann:pass@10.0.0.1')).toBe('socks5://ann:pass@10.0.0.1');
    expect(() => load('socks5://ann:pass@10.0.0.1', 0o644)).toThrow(
      expect.objectContaining({ code: 'CONFIG_PERMISSIONS' }),
    );
    expect(load('socks5://10.0.0.1', 0o644)).toBe('socks5://10.0.0.1');
  });

  it('is not shown when it is wrong', () => {
    expect(() => load('socks9://ann:pass@10.0.0.1')).toThrow(/proxy = … .*: must be socks5/);
    expect(() => load('socks9://10.0.0.1')).toThrow(/proxy = "socks9/);
  });
});
