import { afterEach, describe, expect, it } from 'vitest';
import type { Host } from '../../lab/host.js';
import { Lab } from '../../lab/lab.js';
import { chain, near } from './chain.js';
import { addresses, TracerProcess } from './tracer-process.js';

let lab: Lab;
afterEach(() => lab.destroy());

function build(length: number, options: Parameters<typeof chain>[2] = {}): { hosts: Host[]; tracer: TracerProcess } {
  lab = new Lab();
  const hosts = chain(lab, length, options);
  return { hosts, tracer: new TracerProcess(hosts[0]!) };
}
/** A router that reports nothing. */
const silence = (host: Host): void =>
  host.nft(`table inet silence { chain output { type filter hook output priority 0;
    icmp type time-exceeded drop; icmpv6 type time-exceeded drop
  }
}`);

describe.each([4, 6] as const)('faults over IPv%i', (family) => {
  const path = (length: number): string[] => Array.from({ length }, (_, i) => near(i + 1, family));

  it('a silent router, a stingy one, and one that refuses', async () => {
    const { hosts, tracer } = build(5);
    silence(hosts[2]!);
    // Time exceeded is limited to one a second; more than the kernel's burst is asked.
    hosts[3]!.sysctl(
      family === 4
        ? { 'net.ipv4.icmp_ratelimit': 1000, 'net.ipv4.icmp_ratemask': 2048 }
        : { 'net.ipv6.icmp.ratelimit': 1000, 'net.ipv6.icmp.ratemask': '1-127' },
    );
    const run = await tracer.run({ destination: near(5, family), repeats: 20, sendDelay: 2, timeout: 300 });
    expect(addresses(run)).toEqual(path(5).with(1, '*'));
    expect(run.reached).toBe(true);
    expect(run.hops.map(({ rateLimited }) => rateLimited)).toEqual([false, false, true, false, false]);
    hosts[4]!.nft(`table inet refuse { chain forward { type filter hook forward priority 0;
      reject with icmpx admin-prohibited
  }
}`);
    const refused = await tracer.run({ destination: near(5, family), timeout: 300 });
    expect(refused).toMatchObject({ reached: false, reason: 'unreachable' });
    expect(refused.hops).toHaveLength(5);
    expect(refused.hops[4]!.replies[0]!.from).toBe(near(4, family));
  });

  it('narrow links, and a black hole', async () => {
    const { hosts, tracer } = build(5, { mtu: { 3: 1400, 5: 1300 } });
    const wish = { destination: near(5, family), pmtu: true, sendDelay: 2 };
    for (const protocol of ['udp', 'icmp', 'tcp']) {
      const run = await tracer.run({ ...wish, protocol, port: 80 });
      expect(
        run.hops.map(({ mtu }) => mtu),
        protocol,
      ).toEqual([1500, 1500, 1400, 1400, 1300]);
    }
    hosts[2]!.nft(`table inet hole { chain output { type filter hook output priority 0;
      icmp type destination-unreachable drop; icmpv6 type packet-too-big drop
  }
}`);
    const run = await tracer.run(wish);
    expect(run.hops.map(({ mtu }) => mtu)).toEqual([1500, 1500, 1400, 1400, 1300]);
  });

  it('a target behind an address translation, reached under its public address', async () => {
    const { hosts, tracer } = build(5);
    const outside = family === 4 ? '203.0.113.80' : '2001:db8:80::1';
    const [name, kind] = family === 4 ? ['ip', 'ip daddr'] : ['ip6', 'ip6 daddr'];
    hosts[3]!.nft(`table ${name} translate {
      chain in { type nat hook prerouting priority dstnat; ${kind} ${outside} dnat to ${near(5, family)}; }
    }`);
    for (const protocol of ['udp', 'icmp', 'tcp']) {
      const run = await tracer.run({ destination: outside, protocol, port: protocol === 'tcp' ? 81 : 33_434 });
      expect(run, protocol).toMatchObject({ reached: true, reason: 'destination' });
      expect(run.hops).toHaveLength(5);
      expect(addresses(run).slice(0, 2)).toEqual(path(2));
      expect(run.hops[4]!.replies[0]).toMatchObject({ from: outside, isDestination: true });
    }
  });

  it('a source behind a masquerade', async () => {
    const { hosts, tracer } = build(4);
    hosts[1]!.nft(`table inet home { chain post { type nat hook postrouting priority srcnat;
      oifname "right" masquerade
  }
}`);
    for (const protocol of ['udp', 'icmp', 'tcp']) {
      const run = await tracer.run({ destination: near(4, family), protocol, port: protocol === 'tcp' ? 81 : 33_434 });
      expect(addresses(run), protocol).toEqual(path(4));
      expect(run.reached).toBe(true);
    }
  });
});
