/**
 * What a machine may lack when a node starts or runs: names, a right clock, room on its disk, a free port. One clear line says what is
 * wrong, nothing is lost, and when it is mended the node goes on.
 */
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Lab } from '../lab/lab.js';
import { program, startHttp, startTcp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, Network } from './network.js';
import type { Role } from './role.js';

const RELAY_NAME = 'relay.test';
const TAKEN = 1080;
/** Off by a day, as a machine without a battery for its clock is; the monotonic clock is left alone. */
const clock = (offset: string): string[] => ['env', 'DONT_FAKE_MONOTONIC=1', 'faketime', '-f', offset];
const PROXY = ['--mode', 'proxy', '--socks', '127.0.0.1:0', '--http', 'off'];

describe.skipIf(Lab.unavailable() !== undefined)('what a node may lack', () => {
  let network: Network;

  beforeAll(async () => {
    network = await Network.make({
      relayName: RELAY_NAME,
      services: { web: `tcp://${ADDRESSES.backend.v4}:8080` },
      agent: PROXY,
    });
    await startHttp(network.topology.backend);
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  /** The lines a role that ended wrote for people. */
  const complaints = (role: Role): string[] =>
    role.process.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));

  describe('names', () => {
    it('that cannot be resolved at a reconnect: the address that was known is used', async () => {
      for (const server of network.names) await server.stop('SIGKILL');
      await network.relay.kill();
      await network.startRelay();
      for (const role of [network.agent, network.connector]) {
        await role.waitForStatus<AgentThreadStatus>('the relay', ({ relay }) => relay.state === 'ready', Seconds(40));
      }
    });

    it('that cannot be resolved at the start: status says so, and it starts when they can', async () => {
      await network.agent.stop();
      network.agent.start();
      const { relay } = await network.agent.waitForStatus<AgentThreadStatus>(
        'the problem',
        (status) => status.relay.problem !== '',
        Seconds(40),
      );
      expect(relay.state).not.toBe('ready');
      expect(relay.problem).toContain(`the name ${RELAY_NAME} cannot be resolved`);
      network.names = await network.startNames(RELAY_NAME);
      await network.agent.waitForLog('relay-ready', undefined, { timeout: Seconds(60) });
    });
  });

  describe('a port', () => {
    it.each(['agent', 'connector'] as const)(
      'of the %s that is taken: one line names it, and it ends',
      async (which) => {
        const { user, service } = network.topology;
        const role =
          which === 'agent'
            ? await network.newAgent('bob', user, ['--mode', 'proxy', '--socks', `127.0.0.1:${TAKEN}`])
            : network.role('office-2', service, [
                'connector',
                '--join-file',
                network.tokenFile('office'),
                '--port',
                '4455',
              ]);
        // The connector's identity is its present one's: a second process on the same port.
        if (which === 'connector')
          cpSync(network.connector.dir, role.dir, { recursive: true, filter: (path) => !/sock$|lock$/.test(path) });
        const holder =
          which === 'agent'
            ? await startTcp(user, 'sink', { port: TAKEN, address: '127.0.0.1' })
            : service.spawn(program('udp-server', '--port', '4455', '--address', '0.0.0.0'));
        if (which === 'connector') await holder.waitForLine(/^listening /);
        role.start();
        expect((await role.process.exited).code).toBe(1);
        const lines = complaints(role);
        expect(lines.length).toBe(1);
        expect(lines[0]).toMatch(which === 'agent' ? /127\.0\.0\.1:1080.* in use/ : /:4455.* in use/);
        expect(role.leftovers).toEqual([]);
        await holder.stop('SIGKILL');
      },
    );
  });

  describe('a right clock', () => {
    it.each(['-1d', '+400d'])(
      '%s, while it enrols: the line names the clock, and the token is still good',
      async (offset) => {
        const name = `carol${offset.replace(/\W/, '')}`;
        const wrong = await network.newAgent(name, network.topology.user, PROXY, clock(offset));
        wrong.start();
        expect((await wrong.process.exited).code).toBe(1);
        expect(complaints(wrong).length).toBe(1);
        expect(complaints(wrong)[0]).toMatch(/clock/);
        const right = network.role(name, network.topology.user, [
          'agent',
          '--join-file',
          network.tokenFile(name),
          ...PROXY,
        ]);
        await network.startAgent(right);
        await right.stop();
      },
    );

    it.each(['-1d', '+8d'])('%s, when it is enrolled: status names the clock', async (offset) => {
      const name = `dave${offset.replace(/\W/, '')}`;
      const right = await network.newAgent(name, network.topology.user, PROXY);
      await network.startAgent(right);
      await right.stop();
      const wrong = network.role(name, network.topology.user, ['agent', ...PROXY], clock(offset));
      wrong.start();
      const { relay } = await wrong.waitForStatus<AgentThreadStatus>(
        'the problem',
        (status) => status.relay.problem !== '',
      );
      expect(relay.problem).toMatch(/clock/);
      await wrong.stop();
    });
  });

  describe('room on its disk', () => {
    /** The role's folder is a file system of its own of this size; it goes with the process. */
    const small = (size: string, dir: string): string[] => [
      'unshare',
      '--mount',
      'sh',
      '-c',
      `mkdir -p ${dir} && mount -t tmpfs -o size=${size} tmpfs ${dir} && exec "$@"`,
      'sh',
    ];

    it('while it enrols: one line, and the token is still good', async () => {
      const dir = join(network.folder, 'erin');
      const full = await network.newAgent('erin', network.topology.user, PROXY, small('64k', dir));
      full.start();
      expect((await full.process.exited).code).toBe(1);
      expect(complaints(full).length).toBe(1);
      expect(complaints(full)[0]).toMatch(/cannot be written.*no space.*make room/);
      const roomy = network.role('erin', network.topology.user, [
        'agent',
        '--join-file',
        network.tokenFile('erin'),
        ...PROXY,
      ]);
      await network.startAgent(roomy);
      await roomy.stop();
    });

    it('while it runs: a new policy is in force, and on disk as soon as there is room', async () => {
      const dir = join(network.folder, 'frank');
      const role = await network.newAgent('frank', network.topology.user, PROXY, small('1m', dir));
      role.start();
      await role.waitForLog('relay-ready', undefined, { timeout: Seconds(30) });
      const inside = (command: string) =>
        network.topology.user.exec(['nsenter', '--mount', `--target=${role.pid}`, 'sh', '-c', command], {
          check: false,
        });
      await inside(`cat /dev/zero > ${dir}/filler`);
      const policy = await inside(`cat ${dir}/policy.json`);
      await newPolicy();
      await role.waitForLog('new policy', undefined, { timeout: Seconds(30) });
      await role.waitForLog('the new policy is in use but not on disk');
      expect((await inside(`cat ${dir}/policy.json`)).stdout).toBe(policy.stdout);
      await inside(`rm ${dir}/filler`);
      await role.waitForLog('the new policy is on disk now', undefined, { timeout: Seconds(20) });
      expect((await inside(`cat ${dir}/policy.json`)).stdout).not.toBe(policy.stdout);
      await role.stop();
    });

    /** The operator adds a service, and gives the relay the policy that says so. */
    const newPolicy = async (): Promise<void> => {
      const token = await network.must(
        'invite',
        'connector',
        'depot',
        '--service',
        'more=tcp://10.20.0.9:80',
        '--allow',
        'staff',
        '--dir',
        network.operatorFolder,
      );
      writeFileSync(network.tokenFile('depot'), token);
      cpSync(join(network.operatorFolder, 'operator', 'policy.json'), join(network.relay.dir, 'policy.json'));
      network.relay.process.signal('SIGHUP');
    };
  });
});
