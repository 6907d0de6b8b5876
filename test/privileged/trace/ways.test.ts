/** Paths that are not the same both ways, and paths into a tunnel without a link layer. */
import { afterEach, describe, expect, it } from 'vitest';
import type { Host } from '../../lab/host.js';
import { defaultRoutes, Lab } from '../../lab/lab.js';
import { startTcp } from '../../lab/services.js';
import { addresses, TracerProcess } from './tracer-process.js';
import { wireguard } from './wireguard.js';

let lab: Lab;
afterEach(() => lab.destroy());

function router(name: string): Host {
  const made = lab.router(name);
  // Beside its limit per peer the kernel has one for all together, of 50 at once.
  made.sysctl({ 'net.ipv4.icmp_ratemask': 0, 'net.ipv6.icmp.ratemask': 0, 'net.ipv4.conf.all.rp_filter': 0 });
  return made;
}

/** What `traceroute` finds, one address for each hop. */
async function theirs(source: Host, family: 4 | 6, destination: string): Promise<string[]> {
  const { stdout } = await source.exec(['traceroute', `-${family}`, '-n', '-I', '-q', '1', '-w', '1', destination]);
  return stdout.split('\n').flatMap((line) => /^ *\d+ +(\S+)/.exec(line)?.[1] ?? []);
}

/**
 *          ┌─ east ─┐
 *   source ┤        ├ far ─ target        there by east, back by west, which has a router more
 *          └ west1 ─ west2 ┘
 */
function asymmetric(): { source: Host; routers: Record<'east' | 'west1' | 'west2' | 'far', Host>; target: Host } {
  lab = new Lab();
  const source = router('source');
  const routers = { east: router('east'), west1: router('west1'), west2: router('west2'), far: router('far') };
  const target = router('target');
  const { east, west1, west2, far } = routers;
  const link = (net: number, left: Host, right: Host): void => {
    lab.link(
      { host: left, addresses: [`10.8.${net}.1/24`, `fd08:${net}::1/64`] },
      { host: right, addresses: [`10.8.${net}.2/24`, `fd08:${net}::2/64`] },
    );
  };
  link(1, source, east);
  link(2, east, far);
  link(3, source, west1);
  link(4, west1, west2);
  link(5, west2, far);
  link(6, far, target);
  const gateway = (net: number, end: 1 | 2): string[] => [`10.8.${net}.${end}`, `fd08:${net}::${end}`];
  defaultRoutes(source, gateway(1, 2));
  defaultRoutes(east, gateway(2, 2));
  defaultRoutes(far, gateway(5, 1));
  defaultRoutes(west2, gateway(4, 1));
  defaultRoutes(west1, gateway(3, 1));
  defaultRoutes(target, gateway(6, 1));
  // Probes leave from the source's address on the eastern link: the west has to know where that is.
  for (const [v4, v6] of [['10.8.1.0/24', 'fd08:1::/64']]) {
    for (const [host, net] of [
      [far, 5],
      [west2, 4],
      [west1, 3],
    ] as const) {
      host.ip('route', 'add', v4!, 'via', `10.8.${net}.1`);
      host.ip('-6', 'route', 'add', v6!, 'via', `fd08:${net}::1`);
    }
  }
  return { source, routers, target };
}

describe.each([4, 6] as const)('a path with another way back over IPv%i', (family) => {
  it('is the way there; what it takes back shows in the TTL of answers', async () => {
    const { source, target } = asymmetric();
    await startTcp(target, 'stall', { port: 80 });
    const address = (net: number, end: 1 | 2): string => (family === 4 ? `10.8.${net}.${end}` : `fd08:${net}::${end}`);
    const destination = address(6, 2);
    const middle = family === 4 ? 5 : 2;
    const tracer = new TracerProcess(source);
    for (const protocol of ['udp', 'icmp', 'tcp']) {
      const run = await tracer.run({ destination, protocol, port: protocol === 'tcp' ? 80 : 33_434 });
      expect(run, protocol).toMatchObject({ reached: true, reason: 'destination', privilege: 'raw' });
      expect(addresses(run).slice(0, 1)).toEqual([address(1, 2)]);
      // The router in the middle: over IPv4 it answers from the side it answers to, the western one.
      expect(addresses(run).slice(1)).toEqual([address(middle, 2), destination]);
      // 64 less the routers passed: none from east; two from the far one; three from the target, which is three hops away.
      expect(run.hops.map(({ replies }) => replies[0]!.replyTtl)).toEqual([64, 62, 61]);
    }
    expect(await theirs(source, family, destination)).toEqual(
      addresses(await tracer.run({ destination, protocol: 'icmp' })),
    );
    const unprivileged = await new TracerProcess(source, 65_534).run({ destination });
    expect(addresses(unprivileged)).toEqual([address(1, 2), address(middle, 2), destination]);
  });
});

describe('a path into a WireGuard tunnel', () => {
  it('is found like every other, inside and outside, in both families', async () => {
    lab = new Lab();
    const [source, middle, far, target] = [router('source'), router('middle'), router('far'), router('target')];
    const link = (net: number, left: Host, right: Host): void => {
      lab.link(
        { host: left, addresses: [`10.7.${net}.1/24`, `fd07:${net}::1/64`] },
        { host: right, addresses: [`10.7.${net}.2/24`, `fd07:${net}::2/64`] },
      );
    };
    link(1, source, middle);
    link(2, middle, far);
    link(3, far, target);
    source.ip('route', 'add', '10.7.2.0/24', 'via', '10.7.1.2');
    far.ip('route', 'add', '10.7.1.0/24', 'via', '10.7.2.1');
    defaultRoutes(target, ['10.7.3.1', 'fd07:3::1']);
    const [device] = await wireguard(
      { host: source, outer: '10.7.1.1', inner: ['10.70.0.1/24', 'fd70::1/64'] },
      { host: far, outer: '10.7.2.2', inner: ['10.70.0.2/24', 'fd70::2/64'] },
    );
    source.ip('route', 'add', '10.7.3.0/24', 'dev', device);
    source.ip('-6', 'route', 'add', 'fd07:3::/64', 'dev', device);
    await startTcp(target, 'stall', { port: 80 });
    const tracer = new TracerProcess(source);
    for (const family of [4, 6] as const) {
      const destination = family === 4 ? '10.7.3.2' : 'fd07:3::2';
      const path = [family === 4 ? '10.70.0.2' : 'fd70::2', destination];
      for (const wish of [
        { protocol: 'udp' },
        { protocol: 'icmp' },
        { protocol: 'tcp', port: 80 },
        { protocol: 'tcp', port: 80, tcpMethod: 'sack' },
      ]) {
        const run = await tracer.run({ destination, ...wish });
        expect(addresses(run), JSON.stringify(wish)).toEqual(path);
        expect(run).toMatchObject({ reached: true, privilege: 'raw' });
      }
      // A packet in the tunnel is as long as its device takes.
      const sized = await tracer.run({ destination, pmtu: true, sendDelay: 2 });
      expect(sized.hops.map(({ mtu }) => mtu)).toEqual([1420, 1420]);
      expect(await theirs(source, family, destination)).toEqual(path);
    }
    const outside = await tracer.run({ destination: '10.7.2.2' });
    expect(addresses(outside)).toEqual(['10.7.1.2', '10.7.2.2']);
  });
});
