/** What a start loads: time and memory go with it, so what is heavy is loaded by who uses it and by nobody else. */
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { COMMANDS } from '../../src/cli/command-list.js';
import type { CommandContext } from '../../src/cli/context.js';
import { makeProgram } from '../../src/cli/program.js';
import { MAX_RELAYS } from '../../src/policy/relay-contact.js';

const SRC = fileURLToPath(new URL('../../src', import.meta.url));

const imports = new Map<string, readonly string[]>();

/** What a file imports by name, types left out. */
function importsOf(file: string): readonly string[] {
  const known = imports.get(file);
  if (known !== undefined) return known;
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.ES2023);
  const names = source.statements.flatMap((statement) => {
    const isImport = ts.isImportDeclaration(statement);
    if (!isImport && !ts.isExportDeclaration(statement)) return [];
    const isType = isImport ? statement.importClause?.isTypeOnly === true : statement.isTypeOnly;
    const from = statement.moduleSpecifier;
    return isType || from === undefined ? [] : [(from as ts.StringLiteral).text];
  });
  imports.set(file, names);
  return names;
}

/** Modules of src and outside ones that are loaded with this one: static imports of values, to the end. */
function loads(module: string): Set<string> {
  const found = new Set<string>();
  const visit = (file: string): void => {
    const name = relative(SRC, file).replace(/\.ts$/, '');
    if (found.has(name)) return;
    found.add(name);
    for (const text of importsOf(file)) {
      if (text.startsWith('.')) visit(join(dirname(file), text.replace(/\.js$/, '.ts')));
      else found.add(text);
    }
  };
  visit(join(SRC, `${module}.ts`));
  return found;
}

/** Those of them whose names begin with one of these. */
function among(modules: ReadonlySet<string>, prefixes: readonly string[]): string[] {
  return [...modules].filter((name) => prefixes.some((prefix) => name === prefix || name.startsWith(`${prefix}/`)));
}

const TLS = ['node:http', 'node:https', 'node:tls'];
const LIBRARIES = ['koffi', 'ws', 'strip-json-comments'];
const FLOORS = [
  'wire',
  'netstack',
  'tunnel/links/manager',
  'quic',
  'engine/index',
  'node',
  'agent',
  'connector',
  'relay',
];

describe('what is loaded', () => {
  it('is found through the imports of imports, types left out', () => {
    const agent = loads('cli/commands/agent');
    for (const name of ['agent/run', 'os/thread', 'koffi', 'valibot', 'node:worker_threads'])
      expect(agent).toContain(name);
    for (const name of ['agent/core', 'ws', 'commander']) expect(agent).not.toContain(name);
  });

  it('by every start is next to nothing', () => {
    const main = loads('cli/main');
    expect(among(main, ['commander', 'valibot', ...LIBRARIES, ...TLS, ...FLOORS, 'cli/commands'])).toEqual([]);
    expect(main.size).toBeLessThan(20);
  });

  it('by the help is commander and the list of the commands', () => {
    const program = loads('cli/program');
    expect(among(program, ['valibot', ...LIBRARIES, ...TLS, ...FLOORS, 'os', 'identity', 'cli/commands'])).toEqual([]);
    expect(program.size).toBeLessThan(20);
  });

  it.each(['status', 'wait', 'reload', 'metrics'])('by %s is the local socket and little more', (command) => {
    const modules = loads(`cli/commands/${command}`);
    expect(among(modules, ['valibot', ...LIBRARIES, ...TLS, ...FLOORS, 'identity', 'policy', 'node:crypto'])).toEqual(
      [],
    );
    expect(modules.size).toBeLessThan(20);
  });

  it.each(['init', 'invite', 'revoke', 'policy', 'add-relay'])('by %s is no network', (command) => {
    expect(among(loads(`cli/commands/${command}`), [...LIBRARIES, ...TLS, ...FLOORS])).toEqual([]);
  });

  it.each(['agent', 'connector'])(
    'by the main thread of %s is neither the packet path nor what few nodes need',
    (role) => {
      const modules = loads(`cli/commands/${role}`);
      const path = ['netstack', 'quic', `${role}/core`, 'tunnel/links/manager', 'engine/dns', 'engine/rules'];
      const seldom = [
        'ws',
        'identity/authority',
        'identity/control-client',
        'node/portmap/port-mapper',
        'node/tcp-bridge',
        'trace',
      ];
      expect(among(modules, [...path, ...seldom, ...TLS])).toEqual([]);
    },
  );

  it.each(['agent', 'connector', 'relay', 'tun2socks'])(
    'by the packet thread of %s is nothing of the main thread',
    (role) => {
      const modules = loads(`${role}/packet-thread`);
      expect(modules).toContain('os/packet-thread');
      const files = ['identity/files', 'identity/enrol', 'identity/authority', 'control', 'cli'];
      expect(
        among(modules, [
          'commander',
          'ws',
          'strip-json-comments',
          'node:http',
          'node:https',
          'node:child_process',
          ...files,
        ]),
      ).toEqual([]);
    },
  );
});

describe('the help of all commands', () => {
  const context = {} as CommandContext;

  it('says of each what the command itself would say', async () => {
    const help = (await makeProgram([], context)).helpInformation();
    const whole = await makeProgram(['completion'], context);
    const terms = new Command().createHelp();
    for (const [name, { terms: listed }] of Object.entries(COMMANDS)) {
      const command = whole.commands.find((one) => one.name() === name)!;
      expect(terms.subcommandTerm(command)).toBe(`${name} ${listed}`.trim());
      expect(command.description()).not.toBe('');
    }
    expect(whole.helpInformation()).toBe(help);
    expect(COMMANDS['add-relay']!.about).toContain(`${MAX_RELAYS} at most`);
  });

  it('loads the one that is called or asked about', async () => {
    const options = async (...words: string[]): Promise<string[]> => {
      const { commands } = await makeProgram(words, context);
      return commands.filter((one) => one.name() !== 'version' && one.options.length > 0).map((one) => one.name());
    };
    expect(await options('reload', '--json')).toEqual(['reload']);
    expect(await options('help', 'wait')).toEqual(['wait']);
    expect(await options()).toEqual([]);
    expect(await options('toString')).toEqual([]);
  });
});
