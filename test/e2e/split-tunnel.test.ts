/**
 * Split tunnel: the agent's TUN device gets the virtual prefixes and nothing else, with the agent up, and after it was killed.
 * Packets are counted at three places: at the receiver, on the TUN device by a packet filter, and in the agent.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { run } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { program, startHttp, startUdpEcho } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, Network } from './network.js';

const DATAGRAMS = 200;
const DEVICE = 'sallyport0';

describe.skipIf(Lab.unavailable() !== undefined)('the split tunnel', () => {
  let network: Network;

  beforeAll(async () => {
    network = await Network.make({ services: { web: `tcp://${ADDRESSES.backend.v4}:8080` } });
    await startHttp(network.topology.backend);
    // An ordinary server somewhere else on the Internet.
    await startUdpEcho(network.topology.relay);
    countOnDevice();
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  /**
   * Packets of programs that the kernel has sent into the TUN device or taken from it since the agent started, by whether their
   * far end is a virtual address. What the kernel itself multicasts on every new link (RFC 4861, RFC 3810) is not counted.
   */
  const onDevice = (): Record<'virtual' | 'foreign', number> => {
    const { nftables } = JSON.parse(
      run(['ip', 'netns', 'exec', network.topology.user.namespace, 'nft', '-j', 'list', 'table', 'inet', 'lab_count']),
    ) as {
      nftables: { counter?: { name: 'virtual' | 'foreign'; packets: number } }[];
    };
    const counters = nftables.flatMap(({ counter }) => (counter === undefined ? [] : [counter]));
    return Object.fromEntries(counters.map(({ name, packets }) => [name, packets])) as ReturnType<typeof onDevice>;
  };
  const countOnDevice = (): void => {
    const verdicts = (direction: 'daddr' | 'saddr'): string => `
      ip ${direction} 10.100.0.0/16 counter name virtual accept
      ip6 ${direction} ${ula()} counter name virtual accept
      ip6 daddr ff00::/8 accept
      counter name foreign
    `;
    network.topology.user.nft(`
      table inet lab_count {
        counter virtual {}
        counter foreign {}
        chain out { type filter hook postrouting priority filter; oifname != "${DEVICE}" accept; ${verdicts('daddr')} }
        chain in { type filter hook prerouting priority filter; iifname != "${DEVICE}" accept; ${verdicts('saddr')} }
      }`);
  };
  const echoed = async (address: string): Promise<unknown> => {
    const argv = program('udp-client', address, '7', '--count', String(DATAGRAMS), '--gap', '0');
    return JSON.parse((await network.topology.user.exec(argv)).stdout);
  };
  const routes = (): string[] =>
    ['-4', '-6'].flatMap((family) =>
      network.topology.user
        .ip(family, 'route', 'show', 'dev', DEVICE)
        .split('\n')
        .map((line) => line.split(' ')[0]!)
        .filter((prefix) => prefix !== '' && !prefix.startsWith('fe80') && !prefix.startsWith('ff00')),
    );
  const ula = (): string => {
    const policy = readFileSync(`${network.operatorFolder}/operator/policy.json`, 'utf8');
    const { payload } = JSON.parse(policy) as { payload?: string };
    return (JSON.parse(Buffer.from(payload ?? '', 'base64').toString('utf8')) as { ula: string }).ula;
  };

  it('routes the virtual prefixes and nothing else into the device', async () => {
    const { overlay } = await network.agent.status<AgentThreadStatus>();
    const ipv6 = overlay.filter((ip) => ip.includes(':'));
    expect(routes().sort()).toEqual(['10.100.0.0/16', ula(), ...ipv6].sort());
  });

  it('lets other traffic by: none of it enters the device, all of it arrives', async () => {
    const all = { sent: DATAGRAMS, received: DATAGRAMS, duplicates: 0, corrupted: 0 };
    expect(await echoed(ADDRESSES.relay.v4)).toMatchObject(all);
    expect(await echoed(ADDRESSES.relay.v6)).toMatchObject(all);
    expect(onDevice()).toEqual({ virtual: 0, foreign: 0 });
    const { counters, sessions } = await network.agent.status<AgentThreadStatus>();
    expect(counters['tun.toHost']).toBe(0);
    expect(sessions).toEqual([]);
  });

  it('takes the traffic of a service, on the same counters', async () => {
    const { v4 } = await network.virtual('web');
    await network.topology.user.exec(['curl', '-sSf', '-o', '/dev/null', `http://${v4}:8080/bytes/1000`]);
    const { virtual, foreign } = onDevice();
    expect(foreign).toBe(0);
    // A TCP connection has at least its handshake (3), request and answer (2) and end (2).
    expect(virtual).toBeGreaterThanOrEqual(7);
  });

  it('leaves no device and no route behind when the agent is killed, and other traffic still flows', async () => {
    const { v4, v6 } = await network.virtual('web');
    await network.agent.kill();
    const { user } = network.topology;
    expect(user.ip('-o', 'link', 'show')).not.toContain(DEVICE);
    for (const ip of [v4, v6]) expect(user.ip('route', 'get', ip)).not.toContain(DEVICE);
    expect(await echoed(ADDRESSES.relay.v4)).toMatchObject({ received: DATAGRAMS });
    expect(await echoed(ADDRESSES.relay.v6)).toMatchObject({ received: DATAGRAMS });
  });

  it('starts again on what the killed one left', async () => {
    await network.startAgent();
    const { v4 } = await network.virtual('web');
    await network.topology.user.exec(['curl', '-sSf', '-o', '/dev/null', `http://${v4}:8080/bytes/1000`]);
  });
});
