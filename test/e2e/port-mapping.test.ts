/**
 * Port mapping with the real programs: an agent behind a port-restricted NAT has its gateway map a port, by each protocol, and so gets
 * a direct link to a connector behind a symmetric NAT, for which ports would have to be guessed otherwise.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { becomesDirect } from '../../bench/nat/pair.js';
import { PORTMAP_NAMES, type PortmapProtocol } from '../../src/tunnel/portmap/protocols.js';
import { Lab } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { program } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type ConnectorThreadStatus, Network } from './network.js';
import { type Role, sallyport } from './role.js';

const GATEWAY = '192.168.1.1';
const OUTSIDE = ADDRESSES.user.v4;
const PORT = 40_000;
/** Forwarded by hand at the router. */
const FORWARDED = 41_000;

interface Change {
  readonly protocol: PortmapProtocol;
  readonly inside: string;
  readonly public: number;
  readonly lifetime: number;
}

describe.skipIf(Lab.unavailable() !== undefined)('port mapping', () => {
  let network: Network;
  let gateway: LabProcess | undefined;
  let agent: Role;

  beforeAll(async () => {
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
    agent = await network.newAgent('alice', network.topology.user, ['--mode', 'tun', '--port', String(PORT)]);
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));
  afterEach(async () => {
    await agent.stop();
    await gateway?.stop();
    network.topology.nats.user[0]!.restart();
  });

  const startGateway = async (speaks: string, ...more: readonly string[]): Promise<void> => {
    const argv = program('gateway', GATEWAY, 'to-net', OUTSIDE, '--speaks', speaks, ...more);
    gateway = network.topology.nats.user[0]!.router.spawn(argv);
    await gateway.waitForLine(/^ready$/);
  };
  const changes = (): Change[] =>
    gateway!.stdout
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Change);

  /** The session becomes direct, and the connector's packets go to that address of the agent's. */
  const meetsAt = async (address: string): Promise<void> => {
    expect(await becomesDirect(network)).toMatchObject({ path: 'direct' });
    await network.connector.waitForStatus<ConnectorThreadStatus>(
      `packets to go to ${address}`,
      ({ sessions }) => sessions[0]?.link?.remote === address,
    );
  };

  it.each(['pcp', 'nat-pmp', 'upnp'] as const)(
    'by %s makes a direct link possible, and ends with the agent',
    async (protocol) => {
      await startGateway(protocol);
      await network.startAgent(agent);
      const { address } = await agent.waitForLog('port mapped');
      expect(address).toBe(`${OUTSIDE}:${PORT}`);
      const status = await network.must('status', '--dir', agent.dir);
      expect(status).toContain(`port mapping: ${OUTSIDE}:${PORT} by ${PORTMAP_NAMES[protocol]}, for 2 h`);
      expect(await becomesDirect(network)).toMatchObject({ path: 'direct', reason: 'best_rank' });
      const check = sallyport('netcheck', '--json', '--dir', agent.dir);
      const { portMapping } = JSON.parse((await network.topology.user.exec(check)).stdout);
      expect(portMapping).toEqual({ protocol, ...(protocol === 'pcp' ? {} : { publicAddress: OUTSIDE }) });
      await agent.stop();
      const ends = { protocol, inside: `${ADDRESSES.userInside.v4}:${PORT}`, public: PORT };
      // The agent is gone when it has asked; what the gateway did then is told by the gateway.
      await gateway!.waitFor('the mapping to end', {}, () => changes().find(({ lifetime }) => lifetime === 0));
      expect(changes()[0]).toEqual({ ...ends, lifetime: 7200 });
      expect(changes().at(-1)).toMatchObject({ protocol, inside: ends.inside, lifetime: 0 });
    },
  );

  it('by UPnP takes another port when the wanted one is taken, and a lease without an end where there is no other', async () => {
    await startGateway('upnp', '--taken', String(PORT), '--permanent', 'yes');
    await network.startAgent(agent);
    const { address, lifetime } = await agent.waitForLog('port mapped');
    expect(address).toMatch(new RegExp(`^${OUTSIDE.replaceAll('.', '\\.')}:(?!${PORT}$)\\d+$`));
    expect(lifetime).toBe(1800);
    await meetsAt(String(address));
  });

  it('by hand, a port that the operator tells of, is used as well', async () => {
    gateway = undefined;
    const { router } = network.topology.nats.user[0]!;
    router.nft(`
      table ip lab_forward {
        chain prerouting {
          type nat hook prerouting priority -150; policy accept;
          iifname "to-net" udp dport ${FORWARDED} dnat to ${ADDRESSES.userInside.v4}:${PORT}
        }
      }`);
    const told = `${OUTSIDE}:${FORWARDED}`;
    const argv = ['--mode', 'tun', '--port', String(PORT), '--no-port-mapping', '--advertise', told];
    const mapped = agent;
    agent = network.role('alice', network.topology.user, ['agent', '--join-file', network.tokenFile('alice'), ...argv]);
    await network.startAgent(agent);
    await meetsAt(told);
    await agent.stop();
    router.nft('delete table ip lab_forward');
    agent = mapped;
  });

  it('is by the best protocol of several', async () => {
    await startGateway('pcp,nat-pmp,upnp');
    await network.startAgent(agent);
    expect(await agent.waitForLog('port mapped')).toMatchObject({ protocol: 'pcp' });
  });

  it('is not asked for when the operator says so, nor without a gateway that knows it', async () => {
    gateway = undefined;
    await network.startAgent(agent);
    expect((await agent.stop()).status.code).toBe(0);
    await startGateway('pcp,nat-pmp,upnp');
    const silent = await network.newAgent('bob', network.topology.user, ['--mode', 'proxy', '--no-port-mapping']);
    await network.startAgent(silent);
    expect((await silent.stop()).status.code).toBe(0);
    expect(changes()).toEqual([]);
  });
});
