/**
 * A running role that is told to read its files again: connector services come, go and move, an agent's listeners change, a new
 * policy and a new certificate are taken, a broken file is not, and a download goes on through all of it. Also `wait` and
 * `--exit-after`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ExecResult } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { startHttp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, type ConnectorThreadStatus, Network, type RelayThreadStatus } from './network.js';
import { type Role, sallyport } from './role.js';
import { Download } from './transfer.js';

const BACKEND = ADDRESSES.backend.v4;
const MEGABYTE = 1_000_000;

describe.skipIf(Lab.unavailable() !== undefined)('a role that is reloaded', () => {
  let network: Network;
  let connector: Role;
  let agent: Role;
  let download: Download;
  const files = { connector: '', agent: '' };
  let formerPolicy: Buffer;

  const write = (role: 'connector' | 'agent', content: object | string): void =>
    writeFileSync(files[role], typeof content === 'string' ? content : JSON.stringify(content));
  const services = (ids: Readonly<Record<string, string>>): object => ({ services: ids });
  const proxy = (more: object): object => ({ mode: 'proxy', http: 'off', ...more });
  const command = (role: Role, ...argv: readonly string[]): Promise<ExecResult> =>
    role.host.exec(sallyport(...argv, '--dir', role.dir), { check: false });
  const status = (port: number, path = '/peer'): Promise<string> =>
    network.topology.user
      .exec(
        ['curl', '-s', '--max-time', '30', '-o', '/dev/null', '-w', '%{http_code}', `http://127.0.0.1:${port}${path}`],
        {
          check: false,
        },
      )
      .then(({ stdout }) => stdout);

  beforeAll(async () => {
    network = await Network.make({
      services: { web: `tcp://${BACKEND}:8080`, spare: `tcp://${BACKEND}:8080` },
      agent: false,
    });
    await startHttp(network.topology.backend);
    await startHttp(network.topology.backend, { port: 8081 });
    files.connector = join(network.folder, 'office.json');
    files.agent = join(network.folder, 'alice.json');
    write('connector', services({ web: `tcp://${BACKEND}:8080`, spare: `tcp://${BACKEND}:8080` }));
    await network.connector.stop();
    connector = network.role('office', network.topology.service, ['connector', '--config', files.connector]);
    connector.start();
    write('agent', proxy({ forwards: ['9000=web:8080', '9001=spare:8080'] }));
    agent = await network.newAgent('alice', network.topology.user, ['--config', files.agent]);
    agent.start();
    expect((await command(agent, 'wait', '--service', 'web', '--service', 'spare')).stdout).toBe('ready\n');
    download = await Download.start(network, 'http://127.0.0.1:9000', 400 * MEGABYTE, '2M');
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  it('takes new listeners and keeps those in use', async () => {
    write('agent', proxy({ socks: '[::1]:1081', forwards: ['9000=web:8080', '9002=spare:8080'], logLevel: 'debug' }));
    expect(await command(agent, 'reload')).toMatchObject({ code: 0, stdout: 'reloaded\n' });
    const { device } = await agent.status<AgentThreadStatus>();
    expect(device.listeners.map((one) => one.address)).toEqual(['[::1]:1081', '127.0.0.1:9000', '127.0.0.1:9002']);
    expect(await status(9001)).toBe('000');
    expect(await status(9002)).toBe('200');
    await download.progress();
  });

  it.each([
    ['is not JSON', '{', 'is not JSON'],
    ['has a wrong value', { mode: 'proxy', forwards: ['x'] }, 'forwards.0 = \\"x\\"'],
    ['cannot be opened', proxy({ socks: '192.0.2.99:1', allow: ['10.0.0.0/8'] }), '192.0.2.99:1'],
    ['exposes a listener', proxy({ socks: '0.0.0.0:1081' }), '--allow'],
  ])('goes on as before when the new file %s', async (_what, content, why) => {
    const before = (await agent.status<AgentThreadStatus>()).device;
    write('agent', content);
    const skip = agent.logged(REFUSED).length;
    agent.process.signal('SIGHUP');
    const line = await agent.waitForLog(REFUSED, undefined, { skip });
    expect(JSON.stringify(line)).toContain(why);
    const { code, stderr } = await command(agent, 'reload');
    expect(code).toBe(why.startsWith('192') ? 1 : 2);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    expect((await agent.status<AgentThreadStatus>()).device).toEqual(before);
    expect(await status(9002)).toBe('200');
  });

  it('says which keys count only from the next start', async () => {
    write('agent', proxy({ forwards: ['9000=web:8080', '9002=spare:8080'], port: 40_001, tun: 'other0' }));
    agent.process.signal('SIGHUP');
    const line = await agent.waitForLog('these keys count from the next start');
    expect(line['keys']).toEqual(['port', 'tun']);
    await agent.waitForLog('configuration reloaded', undefined, { skip: 1 });
  });

  it('reaches a service at another place from then on, and leaves flows to the former one', async () => {
    const spare = await Download.start(network, 'http://127.0.0.1:9002', 400 * MEGABYTE, '5M');
    write('connector', services({ spare: `tcp://${BACKEND}:8081` }));
    connector.process.signal('SIGHUP');
    await connector.waitForLog('configuration reloaded');
    const { services: moved } = await connector.status<ConnectorThreadStatus>();
    const there = { backend: `tcp://${BACKEND}:8081`, registration: 'ok' };
    expect(moved.find(({ id }) => id === 'spare')).toMatchObject(there);
    expect(await status(9002)).toBe('200');
    await spare.progress();
    await spare.cancel();
  });

  it('serves a service no longer that is gone, and resets its flows', async () => {
    const spare = await Download.start(network, 'http://127.0.0.1:9002', 400 * MEGABYTE, '5M');
    // The services of the invitation stand in the state folder.
    writeFileSync(join(connector.dir, 'services.json'), JSON.stringify({ web: `tcp://${BACKEND}:8080` }));
    write('connector', services({}));
    expect(await command(connector, 'reload')).toMatchObject({ code: 0 });
    expect(await spare.outcome()).toBe('broken');
    expect((await command(connector, 'wait', '--service', 'spare', '--timeout', '0s')).code).toBe(1);
    await agent.waitForStatus<AgentThreadStatus>('the service to be gone', ({ services: known }) =>
      known.some(({ id, available }) => id === 'spare' && !available),
    );
    expect(await status(9002)).toBe('000');
    await download.progress();
    write('connector', services({ spare: `tcp://${BACKEND}:8080` }));
    expect(await command(connector, 'reload')).toMatchObject({ code: 0 });
    expect((await command(agent, 'wait', '--service', 'spare')).code).toBe(0);
    expect(await status(9002)).toBe('200');
  });

  it('takes a new policy, and serves what only that allows', async () => {
    const invite = ['invite', 'connector', 'office', '--service', `extra=tcp://${BACKEND}:8081`, '--allow', 'staff'];
    await network.must(...invite, '--dir', network.operatorFolder);
    const { policyVersion } = await network.relay.status<RelayThreadStatus>();
    formerPolicy = readFileSync(join(network.relay.dir, 'policy.json'));
    const signed = readFileSync(join(network.operatorFolder, 'operator', 'policy.json'));
    writeFileSync(join(network.relay.dir, 'policy.json'), signed);
    network.relay.process.signal('SIGHUP');
    await network.relay.waitForLog('configuration reloaded');
    expect((await network.relay.status<RelayThreadStatus>()).policyVersion).toBeGreaterThan(policyVersion);
    write('connector', services({ spare: `tcp://${BACKEND}:8080`, extra: `tcp://${BACKEND}:8081` }));
    connector.process.signal('SIGHUP');
    expect((await command(agent, 'wait', '--service', 'extra')).stdout).toBe('ready\n');
    write('agent', proxy({ forwards: ['9000=web:8080', '9002=spare:8080', '9003=extra'] }));
    expect(await command(agent, 'reload')).toMatchObject({ code: 0 });
    expect(await status(9003)).toBe('200');
    await download.progress();
  });

  it.each(['connector', 'agent'] as const)('keeps the newer policy that its own copy lags behind: %s', async (name) => {
    const role = { connector, agent }[name];
    const path = join(role.dir, 'policy.json');
    const newer = await role.status<AgentThreadStatus | ConnectorThreadStatus>();
    writeFileSync(path, formerPolicy);
    expect(await command(role, 'reload')).toMatchObject({ code: 0 });
    expect((await role.status<AgentThreadStatus | ConnectorThreadStatus>()).policyVersion).toBe(newer.policyVersion);
    expect(await status(9003)).toBe('200');
  });

  it('goes on as before when a connector’s new file is wrong', async () => {
    write('connector', services({ web: 'ftp://10.0.0.1' }));
    const { code, stderr } = await command(connector, 'reload');
    expect(code).toBe(2);
    expect(stderr).toContain('services.web');
    expect(await status(9002)).toBe('200');
  });

  it.each(['relay', 'connector', 'agent'] as const)('refuses a certificate that is not its own: %s', async (name) => {
    const role = { relay: network.relay, connector, agent }[name];
    if (name === 'connector') write('connector', services({}));
    const path = join(role.dir, 'cert.pem');
    const own = readFileSync(path);
    const other = readFileSync(join((name === 'agent' ? connector : agent).dir, 'cert.pem'));
    for (const [wrong, why] of [
      [other, 'is for another key'],
      ['nonsense', 'cannot be read'],
    ] as const) {
      writeFileSync(path, wrong);
      expect(await command(role, 'reload')).toMatchObject({ code: 1, stderr: expect.stringContaining(why) });
    }
    writeFileSync(path, own);
    expect(await command(role, 'reload')).toMatchObject({ code: 0 });
  });

  it('has dropped nothing of the download that began before all of it', async () => {
    await download.progress();
    expect(download.running).toBe(true);
    const { sessions } = await agent.status<AgentThreadStatus>();
    expect(sessions.map(({ reconnects }) => reconnects)).toEqual([0]);
    await download.cancel();
  });

  describe('wait', () => {
    it('says what is missing when the time is over, also as JSON', async () => {
      const missing = await command(agent, 'wait', '--service', 'nothing', '--timeout', '300ms');
      expect(missing.code).toBe(1);
      expect(missing.stderr).toContain('the service nothing does not exist or is not granted to alice');
      const json = await command(network.relay, 'wait', '--service', 'nothing', '--timeout', '0s', '--json');
      expect(JSON.parse(json.stdout)).toEqual({ ready: false, missing: 'no connector serves nothing now' });
      const none = await network.topology.user.exec(
        sallyport('wait', '--dir', join(network.folder, 'none'), '--timeout', '100ms'),
        { check: false },
      );
      expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining('Nothing is running') });
      expect(await command(agent, 'wait', '--timeout', 'soon')).toMatchObject({ code: 2 });
    });

    it('knows the path of a session', async () => {
      expect((await command(agent, 'wait', '--service', 'web', '--path', 'direct')).code).toBe(0);
      expect((await command(agent, 'wait', '--path', 'relay', '--timeout', '0s')).code).toBe(1);
    });

    it('waits for a role to start and to reach its relay', async () => {
      await agent.stop();
      const waiting = command(agent, 'wait', '--service', 'web', '--json');
      agent.start();
      expect(JSON.parse((await waiting).stdout)).toMatchObject({ ready: true });
    });

    it('knows relays and connectors', async () => {
      expect((await command(network.relay, 'wait', '--service', 'web')).code).toBe(0);
      expect((await command(connector, 'wait', '--service', 'web')).code).toBe(0);
      const other = await command(connector, 'wait', '--service', 'x', '--timeout', '0s');
      expect(other.stderr).toContain('office does not serve x');
    });
  });

  it.each(['relay', 'connector', 'agent'] as const)('prints metrics: %s', async (name) => {
    const role = { relay: network.relay, connector, agent }[name];
    const { stdout } = await command(role, 'metrics');
    const one = { relay: 'relay', connector: 'office', agent: 'alice' }[name];
    expect(stdout).toContain(`sallyport_up{network="lab",role="${name}",name="${one}"} 1\n`);
    expect(stdout).toMatch(new RegExp(`role="${name}",name="${one}",counter="log.suppressed"} \\d+\n`));
  });

  it.each(['relay', 'connector', 'agent'] as const)('ends by itself after a time: %s', async (name) => {
    const role = { relay: network.relay, connector, agent }[name];
    await role.stop();
    const extra = name === 'relay' ? ['--listen', '0.0.0.0:4433', '--control', '0.0.0.0:8443'] : [];
    const config = name === 'relay' ? [] : ['--config', files[name]];
    if (name === 'connector') write('connector', services({}));
    const started = performance.now();
    const child = role.host.spawn(sallyport(name, ...extra, ...config, '--dir', role.dir, '--exit-after', '500ms'));
    const { code } = await child.exited;
    expect(code).toBe(0);
    expect((performance.now() - started) / 1_000).toBeGreaterThan(0.5);
    expect(child.stderr).toContain('"exitAfter":"500ms"');
  });
});

const REFUSED = 'reload refused; what was in force goes on';
