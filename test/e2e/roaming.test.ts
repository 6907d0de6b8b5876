/**
 * An agent's machine that moves, with the real programs: other addresses in mid-download, then another uplink by the default route
 * alone. The download goes on whole, and packets go directly again. What it took is printed; limits are tested in virtual time.
 */
import { describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { Lab } from '../lab/lab.js';
import { pollUntil } from '../lab/process.js';
import { ADDRESSES } from '../lab/topology.js';
import { directWeb, network, url } from './direct-web.js';
import type { AgentThreadStatus, ConnectorThreadStatus } from './network.js';
import { Download } from './transfer.js';

const BYTES = 25_000_000;
const RATE = '6M';
/** The user's machine after its first move, on the same network; and the network of its second uplink (RFC 2544). */
const MOVED = { v4: '192.0.2.77', v6: '2001:db8:1::77' };
const OTHER = { v4: '198.18.5.2', gateway: '198.18.5.1' };

describe.skipIf(Lab.unavailable() !== undefined)('an agent that moves', () => {
  directWeb();

  /** Until packets go directly and the connector sees the agent at one of these addresses. */
  const directFrom = async (...ips: readonly string[]): Promise<void> => {
    const isThere = (remote = ''): boolean => ips.some((ip) => remote.startsWith(ip) || remote.startsWith(`[${ip}]`));
    await network.agent.waitForStatus<AgentThreadStatus>(
      'packets to go directly',
      ({ sessions }) => sessions[0]?.link?.via === 'direct',
      Seconds(30),
    );
    await network.connector.waitForStatus<ConnectorThreadStatus>(
      `the agent to be at ${ips.join(' or ')}`,
      ({ sessions }) => sessions[0]?.link?.via === 'direct' && isThere(sessions[0].link.remote),
      Seconds(30),
    );
  };
  const goesOn = async (download: Download, what: string): Promise<void> => {
    const before = download.arrived;
    const at = performance.now();
    await pollUntil('more of the download', () => download.arrived > before + 1_500_000);
    console.log(`${what}: ${(performance.now() - at).toFixed(0)} ms until 1.5 MB more had arrived`);
  };

  it('gets other addresses of both families in mid-download', async () => {
    const { user } = network.topology;
    // The download is not to be over before packets go directly.
    await user.exec(['curl', '-sSf', '--max-time', '30', '-o', '/dev/null', `${url}/bytes/100`]);
    await directFrom(ADDRESSES.user.v4, ADDRESSES.user.v6);
    const download = await Download.start(network, url, BYTES, RATE);
    user.sysctl({ 'net.ipv4.conf.all.promote_secondaries': 1, 'net.ipv4.conf.to-net.promote_secondaries': 1 });
    for (const [family, bits] of [
      ['v4', 24],
      ['v6', 64],
    ] as const) {
      const more = family === 'v6' ? ['nodad'] : [];
      user.ip('address', 'add', `${MOVED[family]}/${bits}`, 'dev', 'to-net', ...more);
      user.ip('address', 'del', `${ADDRESSES.user[family]}/${bits}`, 'dev', 'to-net');
    }
    await goesOn(download, 'other addresses');
    await directFrom(MOVED.v4, MOVED.v6);
    expect(await download.outcome()).toBe('complete');
    const { relay } = await network.agent.status<AgentThreadStatus>();
    expect(relay.observed).toMatch(new RegExp(`^${MOVED.v4.replaceAll('.', '\\.')}:`));
  });

  it('has its default route moved to another uplink in mid-download, the old one going nowhere', async () => {
    const { lab, user, net } = network.topology;
    lab.link(
      { host: user, addresses: [`${OTHER.v4}/24`], device: 'lte' },
      { host: net, addresses: [`${OTHER.gateway}/24`] },
    );
    const download = await Download.start(network, url, BYTES, RATE);
    net.nft(`
      table inet lab_old {
        chain forward {
          type filter hook forward priority 0; policy accept;
          iifname "to-user" drop
          oifname "to-user" drop
        }
      }`);
    user.ip('route', 'replace', 'default', 'via', OTHER.gateway);
    await goesOn(download, 'another uplink');
    await directFrom(OTHER.v4);
    expect(await download.outcome()).toBe('complete');
    const { relay, sessions } = await network.agent.status<AgentThreadStatus>();
    expect([relay.state, relay.observed?.split(':')[0], sessions.length]).toEqual(['ready', OTHER.v4, 1]);
  });
});
