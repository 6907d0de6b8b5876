/**
 * Direct links with the real programs: agent and connector find each other, packets leave the relay, and come back to it when the
 * direct path dies.
 */
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Lab } from '../lab/lab.js';
import { contentHash } from '../lab/programs/content.mjs';
import { ADDRESSES } from '../lab/topology.js';
import { cutDirectPath } from './direct-path.js';
import { directWeb, network, url } from './direct-web.js';
import type { AgentThreadStatus, ConnectorThreadStatus, RelayThreadStatus } from './network.js';
import { Download } from './transfer.js';

const BYTES = 40_000_000;
const RATE = '10M';
const FETCHED = 5_000_000;
/** What keep-alives, life signs and size discovery may add to a channel meanwhile. */
const STANDBY_PACKETS = 100;

describe.skipIf(Lab.unavailable() !== undefined)('direct links', () => {
  directWeb();

  const fetches = async (): Promise<void> => {
    const argv = ['sh', '-c', 'curl -sSf --max-time 30 "$1" | sha256sum', 'sh', `${url}/bytes/${FETCHED}?seed=2`];
    const { stdout } = await network.topology.user.exec(argv);
    expect(stdout.slice(0, 64)).toBe(contentHash(2, FETCHED));
  };
  const goesBy = (via: 'relay' | 'direct') =>
    network.agent.waitForStatus<AgentThreadStatus>(
      `packets to go by ${via}`,
      ({ sessions }) => sessions[0]?.link?.via === via,
      Seconds(40),
    );
  const channelPackets = async (): Promise<number> => {
    const { channels } = await network.relay.status<RelayThreadStatus>();
    return channels.reduce((sum, { packets }) => sum + packets.fromAgent + packets.fromConnector, 0);
  };
  /** What both ends have sent twice, because a machine with other work made a link suspect. */
  const copies = async (): Promise<number> => {
    const nodes = [network.agent, network.connector].map((role) => role.status<AgentThreadStatus>());
    return (await Promise.all(nodes)).reduce((sum, { counters }) => sum + (counters['path.copies_out'] ?? 0), 0);
  };

  it('leave the relay: its channel stands still while files are fetched', async () => {
    await fetches();
    const waited = await network.must('wait', '--dir', network.agent.dir, '--service', 'web', '--path', 'direct');
    expect(waited).toContain('ready');
    await goesBy('direct');
    // The other address family's link follows.
    const { sessions } = await network.agent.waitForStatus<AgentThreadStatus>(
      'a direct link of each family',
      (status) => status.sessions[0]!.links.filter(({ via }) => via === 'direct').length === 2,
    );
    const { direct, links } = sessions[0]!;
    expect(direct).toBe('best_rank');
    expect(links[0]).toMatchObject({ via: 'relay', state: 'standby', remote: `${ADDRESSES.relay.v4}:4433` });
    expect(
      links
        .slice(1)
        .map(({ state }) => state)
        .sort(),
    ).toEqual(['active', 'standby']);
    expect(new Set(links.slice(1).map(({ remote }) => remote.startsWith('['))).size).toBe(2);
    expect(sessions[0]!.link!.remote).toMatch(/^(203\.0\.113\.2:\d+|\[2001:db8:3::2\]:\d+)$/);
    const [before, copied] = [await channelPackets(), await copies()];
    await fetches();
    expect((await channelPackets()) - before).toBeLessThan(STANDBY_PACKETS + (await copies()) - copied);
    const connector = await network.connector.status<ConnectorThreadStatus>();
    expect(connector.sessions[0]!.link).toMatchObject({ via: 'direct', why: 'told_by_agent' });
    expect(await network.must('status', '--dir', network.agent.dir)).toMatch(
      /^office +direct \d+ .* active .* (best_rank|lower_rtt)$/m,
    );
    expect(await network.must('metrics', '--dir', network.agent.dir)).toContain('counter="punch.proved"');
  });

  it('a path that is cut in mid-download is left for the relay, and taken again when it is back', async () => {
    await goesBy('direct');
    const download = await Download.start(network, url, BYTES, RATE);
    cutDirectPath(network, 'both');
    await goesBy('relay');
    expect(await download.outcome()).toBe('complete');
    cutDirectPath(network, 'none');
    await goesBy('direct');
    await fetches();
  });

  it('of a connector whose operator wants none are left at a reload, and come back at another', async () => {
    await goesBy('direct');
    const wantPath = (path: 'auto' | 'relay'): void => {
      writeFileSync(join(network.connector.dir, 'sallyport.json'), JSON.stringify({ path }));
      network.connector.process.signal('SIGHUP');
    };
    const download = await Download.start(network, url, BYTES, RATE);
    wantPath('relay');
    await network.agent.waitForStatus<AgentThreadStatus>(
      'packets to go by the relay, and why',
      ({ sessions: [session] }) => session?.link?.via === 'relay' && session.direct === 'operator_of_connector',
    );
    wantPath('auto');
    await goesBy('direct');
    expect(await download.outcome()).toBe('complete');
    expect(network.connector.logged('these keys count from the next start')).toEqual([]);
  });

  it('an agent on the connector’s own host finds it there', async () => {
    const { service } = network.topology;
    const agent = await network.newAgent('bob', service, ['--mode', 'proxy', '--socks', '127.0.0.1:1080']);
    await network.startAgent(agent);
    await service.exec(['curl', '-sSf', '--max-time', '30', '--socks5', '127.0.0.1:1080', `${url}/bytes/10`]);
    const { sessions } = await agent.waitForStatus<AgentThreadStatus>(
      'packets to go directly',
      (status) => status.sessions[0]?.link?.via === 'direct',
    );
    expect(sessions[0]!.link!.remote).toMatch(/^(203\.0\.113\.2|10\.20\.0\.1|\[2001:db8:3::2\]|\[fd00:20::1\]):\d+$/);
    await agent.stop();
  });

  it('a service that the operator holds to the relay keeps to it beside a direct link', async () => {
    await goesBy('direct');
    const service = `web=tcp://${ADDRESSES.backend.v4}:8080,path=relay`;
    await network.must('invite', 'connector', 'office', '--service', service, '--dir', network.operatorFolder);
    copyFileSync(join(network.operatorFolder, 'operator', 'policy.json'), join(network.relay.dir, 'policy.json'));
    network.relay.process.signal('SIGHUP');
    await network.agent.waitForStatus<AgentThreadStatus>('the new policy', ({ services }) =>
      services.some(({ id, path }) => id === 'web' && path === 'relay'),
    );
    const before = await channelPackets();
    await fetches();
    expect((await channelPackets()) - before).toBeGreaterThan(FETCHED / 1400);
    await goesBy('direct');
    expect(await network.must('status', '--dir', network.agent.dir)).toContain('available, relay only (operator)');
    const waited = ['wait', '--dir', network.agent.dir, '--service', 'web', '--timeout', '1s', '--path'];
    expect(await network.must(...waited, 'relay')).toContain('ready');
    await expect(network.must(...waited, 'direct')).rejects.toThrow('relay links only');
  });
});
