/**
 * Port mapping with the real programs: an agent behind a port-restricted NAT has its gateway map a port, by each protocol, and so gets
 * a direct link to a connector behind a symmetric NAT, which punching alone does not give.
 */
import { afterEach, describe, expect, it } from 'vitest';
import { becomesDirect } from '../../bench/nat/pair.js';
import { PORTMAP_NAMES, type PortmapProtocol } from '../../src/tunnel/portmap/protocols.js';
import { Lab } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { program } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { Network } from './network.js';
import { sallyport } from './role.js';

const GATEWAY = '192.168.1.1';
const OUTSIDE = ADDRESSES.user.v4;

interface Change {
  readonly protocol: PortmapProtocol;
  readonly inside: string;
  readonly public: number;
  readonly lifetime: number;
}

describe.skipIf(Lab.unavailable() !== undefined)('port mapping', () => {
  let network: Network;
  let gateway: LabProcess;
  afterEach(async () => {
    await network?.destroy();
  });

  const build = async (speaks: string, more: readonly string[] = [], agent: readonly string[] = []): Promise<void> => {
    network = await Network.make({
      path: 'auto',
      agent: false,
      topology: {
        user: { kind: 'moderate', ipv6: 'none' },
        service: { kind: 'strict', ipv6: 'none' },
        serviceClosed: false,
      },
      services: { host: `icmp://${ADDRESSES.backend.v4}` },
    });
    const argv = program('gateway', GATEWAY, 'to-net', OUTSIDE, '--speaks', speaks, ...more);
    gateway = network.topology.nats.user[0]!.router.spawn(argv);
    await gateway.waitForLine(/^ready$/);
    await network.startAgent(await network.newAgent('alice', network.topology.user, ['--mode', 'tun', ...agent]));
  };
  const changes = (): Change[] =>
    gateway.stdout
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Change);

  it.each(['pcp', 'nat-pmp', 'upnp'] as const)(
    'by %s makes a direct link possible, and is removed at the end',
    async (protocol) => {
      await build(protocol);
      const { address } = await network.agent.waitForLog('port mapped');
      const { status } = { status: await network.must('status', '--dir', network.agent.dir) };
      expect(status).toContain(`port mapping: ${address as string} by ${PORTMAP_NAMES[protocol]}, for 2 h`);
      const result = await becomesDirect(network);
      expect(result).toMatchObject({ path: 'direct', reason: 'best_rank' });
      const check = sallyport('netcheck', '--json', '--dir', network.agent.dir);
      const { portMapping } = JSON.parse((await network.topology.user.exec(check)).stdout);
      expect(portMapping).toEqual({ protocol, ...(protocol === 'pcp' ? {} : { publicAddress: OUTSIDE }) });
      await network.agent.stop();
      const [first, last] = [changes()[0]!, changes().at(-1)!];
      expect(first).toMatchObject({ protocol, lifetime: 7200 });
      expect(address).toBe(`${OUTSIDE}:${first.public}`);
      expect(last).toMatchObject({ protocol, inside: first.inside, lifetime: 0 });
    },
  );

  it('takes the best protocol of several, and none when told so', async () => {
    await build('pcp,nat-pmp,upnp');
    await network.agent.waitForLog('port mapped', ({ protocol }) => protocol === 'pcp');
    await network.agent.stop();
    const seen = changes().length;
    const silent = await network.newAgent('bob', network.topology.user, ['--mode', 'proxy', '--no-port-mapping']);
    await network.startAgent(silent);
    expect((await silent.stop()).status.code).toBe(0);
    expect(changes()).toHaveLength(seen);
  });
});
