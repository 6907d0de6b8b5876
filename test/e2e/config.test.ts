/**
 * Configuration files: every role runs from one alone, the examples of the repository start, and what is wrong in a file is named with
 * its key before anything starts.
 */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import stripJsonComments from 'strip-json-comments';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ExecResult, Host } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { REPOSITORY, startHttp } from '../lab/services.js';
import type { AgentThreadStatus, RelayThreadStatus } from './network.js';
import { Role, sallyport } from './role.js';

type RoleName = 'relay' | 'connector' | 'agent';

describe.skipIf(Lab.unavailable() !== undefined)('configuration files', () => {
  let lab: Lab;
  let host: Host;
  let folder: string;
  const running: Role[] = [];

  beforeAll(async () => {
    lab = new Lab();
    host = lab.host('one');
    await startHttp(host);
  });
  beforeEach((context) => {
    context.onTestFailed(() => console.error(running.map((role) => role.describe()).join('\n')));
    folder = mkdtempSync(join(tmpdir(), 'spl-e2e-'));
  });
  afterEach(async () => {
    for (const role of running.splice(0)) await role.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  afterAll(async () => {
    await lab?.destroy();
  });

  /** Makes a network, tokens for a connector with these services and for an agent, and puts the relay's folder on "its machine". */
  const invite = async (services: Readonly<Record<string, string>>): Promise<void> => {
    await host.exec(sallyport('init', '--name', 'lab', '--dir', join(folder, 'net')));
    const specs = Object.entries(services).flatMap(([id, url]) => ['--service', `${id}=${url}`]);
    const dir = ['--dir', join(folder, 'net')];
    const token = async (file: string, ...argv: readonly string[]): Promise<void> =>
      writeFileSync(join(folder, file), (await host.exec(sallyport('invite', ...argv, ...dir))).stdout);
    await token('office.token', 'connector', 'office', ...specs, '--allow', 'staff');
    await token('alice.token', 'agent', 'alice', '--group', 'staff');
    cpSync(join(folder, 'net', 'relay'), join(folder, 'relay'), { recursive: true });
  };
  const write = (name: RoleName, content: string | object): string => {
    const path = join(folder, `${name}.json`);
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
    return path;
  };
  const start = async (name: RoleName, ready: string): Promise<Role> => {
    const role = new Role(name, host, join(folder, name), [name, '--config', join(folder, `${name}.json`)]);
    running.push(role);
    role.start();
    await role.waitForLog(ready);
    return role;
  };
  const fails = (name: RoleName, content: string | object, ...argv: readonly string[]): Promise<ExecResult> =>
    host.exec(sallyport(name, '--config', write(name, content), ...argv), { check: false });

  it('are enough to run every role', async () => {
    await invite({ web: 'tcp://127.0.0.1:8080' });
    write(
      'relay',
      `{
        // comments and trailing commas are allowed
        "dir": "${join(folder, 'relay')}",
        "listen": ["127.0.0.1:4433"],
        "control": "127.0.0.1:8443",
        "logLevel": "debug",
      }`,
    );
    write('connector', { dir: join(folder, 'connector'), joinFile: join(folder, 'office.token'), port: 40_000 });
    const proxies = { mode: 'proxy', socks: '127.0.0.1:1081', http: 'off', forwards: ['127.0.0.1:9001=web:8080'] };
    write('agent', { dir: join(folder, 'agent'), joinFile: join(folder, 'alice.token'), ...proxies });
    const relay = await start('relay', 'relay ready');
    await start('connector', 'registered');
    const agent = await start('agent', 'relay-ready');
    const { device } = await agent.waitForStatus<AgentThreadStatus>('the listeners', () => true);
    expect(device.listeners.map((one) => `${one.kind} ${one.address}`)).toEqual([
      'socks 127.0.0.1:1081',
      'forward 127.0.0.1:9001',
    ]);
    const { nodes } = await relay.status<RelayThreadStatus>();
    expect(nodes.find((one) => one.name === 'office')!.address).toBe('127.0.0.1:40000');
    await agent.waitForStatus<AgentThreadStatus>('the service', (status) =>
      status.services.some((one) => one.available),
    );
    await host.exec(['curl', '-sSf', '--max-time', '30', 'http://127.0.0.1:9001/bytes/1000']);
  });

  it('of the repository’s examples start', async () => {
    const example = (name: RoleName): Record<string, unknown> => {
      const path = join(REPOSITORY, 'examples', `${name}.json`);
      expect(existsSync(path)).toBe(true);
      return JSON.parse(stripJsonComments(readFileSync(path, 'utf8'), { trailingCommas: true })) as object as Record<
        string,
        unknown
      >;
    };
    const connector = example('connector');
    await invite(connector['services'] as Record<string, string>);
    // The files as they are, but for the places on this machine.
    write('relay', { ...example('relay'), dir: join(folder, 'relay') });
    write('connector', { ...connector, dir: join(folder, 'connector'), joinFile: join(folder, 'office.token') });
    write('agent', { ...example('agent'), dir: join(folder, 'agent'), joinFile: join(folder, 'alice.token') });
    await start('relay', 'relay ready');
    await start('connector', 'registered');
    const agent = await start('agent', 'relay-ready');
    const { services } = await agent.waitForStatus<AgentThreadStatus>('the services', (status) =>
      status.services.every((one) => one.available),
    );
    expect(services.map((one) => one.id).sort()).toEqual(Object.keys(connector['services'] as object).sort());
  });

  it.each(['relay', 'connector', 'agent'] as const)('of a %s that cannot be read are refused', async (name) => {
    const missing = await host.exec(sallyport(name, '--config', join(folder, 'none.json')), { check: false });
    expect(missing).toMatchObject({ code: 2, stderr: expect.stringContaining('none.json') });
    const broken = await fails(name, '{ "dir": ');
    expect(broken).toMatchObject({ code: 2, stderr: expect.stringContaining('is not JSON') });
  });

  it.each([
    ['relay', { listen: ['nowhere'] }, 'listen'],
    ['relay', { logLevel: 'loud' }, 'logLevel'],
    ['connector', { port: 70_000 }, 'port'],
    ['connector', { services: { 'Not A Label': 'tcp://127.0.0.1:1' } }, 'Not A Label'],
    ['agent', { mode: 'magic' }, 'mode'],
    ['agent', { forwards: ['nonsense'] }, 'forwards'],
  ] as const)('of a %s with a wrong value %j are refused, and the key is named', async (name, wrong, key) => {
    const result = await fails(name, { dir: join(folder, name), ...wrong });
    expect(result).toMatchObject({ code: 2, stderr: expect.stringContaining(key) });
    expect(existsSync(join(folder, name))).toBe(false);
  });

  it.each(['relay', 'connector', 'agent'] as const)('of a %s with an unknown key are refused', async (name) => {
    const result = await fails(name, { dir: join(folder, name), lissten: 1 });
    expect(result).toMatchObject({ code: 2, stderr: expect.stringContaining('lissten: unknown key') });
  });
});
