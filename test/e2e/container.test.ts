/**
 * An agent in a container without root: its only way out is the TAP device of a program in user space. It gets a direct link there
 * as anywhere, through that program's NAT.
 *
 *   box (agent) ── tap0, slirp4netns ── user ── net ── service (connector)
 */
import { afterEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Lab } from '../lab/lab.js';
import { startHttp } from '../lab/services.js';
import { type AgentThreadStatus, Network } from './network.js';

describe.skipIf(Lab.unavailable() !== undefined)('a container without root', () => {
  let network: Network;
  afterEach(async () => {
    await network?.destroy();
  });

  it('gets a direct link through its TAP device', async (context) => {
    network = await Network.make({
      agent: false,
      path: 'auto',
      topology: { serviceClosed: false },
      services: { web: 'tcp://127.0.0.1:8080' },
    });
    network.reportFailure(context);
    const { user, service } = network.topology;
    await startHttp(service, { port: 8080, address: '127.0.0.1' });
    const box = network.lab.host('box');
    const slirp = user.spawn([
      'slirp4netns',
      '--configure',
      '--netns-type=path',
      `/run/netns/${box.namespace}`,
      'tap0',
    ]);
    await slirp.waitForLine(/received tapfd/);
    const agent = await network.newAgent('alice', box, ['--mode', 'tun', '--path', 'direct']);
    await network.startAgent(agent);
    const { v4 } = await network.virtual('web');
    const quiet = ['-sS', '--max-time', '30', '-o', '/dev/null', '-w', '%{size_download}'];
    expect((await box.exec(['curl', ...quiet, `http://${v4}:8080/bytes/100000`])).stdout).toBe('100000');
    const { sessions } = await agent.waitForStatus<AgentThreadStatus>(
      'a direct link',
      (status) => status.sessions.some(({ link }) => link?.via === 'direct'),
      Seconds(30),
    );
    expect(sessions[0]!.link).toMatchObject({ via: 'direct', state: 'active' });
  });
});
