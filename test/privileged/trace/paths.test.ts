import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Seconds } from '../../../src/base/time.js';
import type { Host } from '../../lab/host.js';
import { Lab } from '../../lab/lab.js';
import { startTcp } from '../../lab/services.js';
import { chain, near } from './chain.js';
import { addresses, program, type ShownRun, TracerProcess, type Wish } from './tracer-process.js';

const LENGTH = 5;
const NOBODY = 65_534;

let lab: Lab;
let hosts: Host[];
let root: TracerProcess;
let user: TracerProcess;

beforeAll(async () => {
  lab = new Lab();
  hosts = chain(lab, LENGTH);
  await startTcp(hosts[LENGTH]!, 'stall', { port: 80 });
  root = new TracerProcess(hosts[0]!);
  user = new TracerProcess(hosts[0]!, NOBODY);
});
afterAll(() => lab.destroy());

describe.each([4, 6] as const)('a chain of routers over IPv%i', (family) => {
  const destination = near(LENGTH, family);
  const path = Array.from({ length: LENGTH }, (_, i) => near(i + 1, family));

  it.each([
    ['udp', {}, 'unreachable'],
    ['icmp', {}, 'echo_reply'],
    ['icmp', { paris: true }, 'echo_reply'],
    ['tcp', { port: 80 }, 'syn_ack'],
    ['tcp', { port: 80, paris: true }, 'syn_ack'],
    ['tcp', { port: 81 }, 'rst'],
    ['tcp', { port: 80, tcpMethod: 'sack' }, 'sack'],
    ['tcp', { port: 81, tcpMethod: 'prefer_sack' }, 'rst'],
    ['quic', { port: 443 }, 'unreachable'],
  ])('is found by %s %o', async (protocol, change, last) => {
    const run = await root.run({ destination, protocol, repeats: 2, ...change });
    expect(addresses(run)).toEqual(path);
    expect(run).toMatchObject({ reached: true, reason: 'destination', privilege: 'raw' });
    expect(run.hops.at(-1)!.replies[0]!.kind).toBe(last);
    for (const { replies, ttl } of run.hops) {
      expect(replies.length).toBeGreaterThanOrEqual(1);
      for (const { rtt, replyTtl, nat } of replies) {
        expect(rtt).toBeGreaterThan(0);
        expect([replyTtl, nat]).toEqual([65 - ttl, false]);
      }
    }
  });

  it.each([
    ['udp', {}, 'unreachable'],
    ['icmp', {}, 'echo_reply'],
    ['tcp', { port: 80 }, 'syn_ack'],
    ['tcp', { port: 81, paris: true }, 'rst'],
  ])('is found without privileges by %s %o', async (protocol, change, last) => {
    const run = await user.run({ destination, protocol, ...change });
    expect(addresses(run)).toEqual(path);
    expect(run).toMatchObject({ reached: true, reason: 'destination', privilege: 'unprivileged' });
    expect(run.hops.at(-1)!.replies[0]!.kind).toBe(last);
  });

  it('is the one that other programs find', async () => {
    const run = await root.run({ destination, protocol: 'icmp' });
    const [traceroute, mtr, scamper] = await Promise.all([
      hosts[0]!.exec(['traceroute', `-${family}`, '-n', '-I', '-q', '1', destination]),
      hosts[0]!.exec(['mtr', `-${family}`, '-n', '--json', '-c', '1', '-i', '0.2', destination]),
      hosts[0]!.exec(['scamper', '-O', 'json', '-I', `trace -P icmp-paris ${destination}`]),
    ]);
    const byTraceroute = traceroute.stdout.split('\n').flatMap((line) => /^ *\d+ +(\S+)/.exec(line)?.[1] ?? []);
    const byMtr = (JSON.parse(mtr.stdout) as { report: { hubs: { host: string }[] } }).report.hubs;
    const byScamper = scamper.stdout
      .split('\n')
      .filter((line) => line.includes('"hops"'))
      .flatMap((line) => (JSON.parse(line) as { hops: { addr: string }[] }).hops);
    expect(byTraceroute).toEqual(addresses(run));
    expect(byMtr.map(({ host }) => host)).toEqual(addresses(run));
    expect(byScamper.map(({ addr }) => addr)).toEqual(addresses(run));
  });

  it('is asked from the address, the device, the port and with the mark that are wanted', async () => {
    const source = family === 4 ? '10.9.77.1' : 'fd09:77::1';
    hosts[0]!.ip('address', 'add', source, 'dev', 'lo');
    for (const host of hosts.slice(1)) {
      const back = `${family === 4 ? '10.9' : 'fd09'}`;
      const n = hosts.indexOf(host);
      host.ip(`-${family}`, 'route', 'add', source, 'via', family === 4 ? `${back}.${n}.1` : `${back}:${n}::1`);
    }
    const run = await root.run({
      destination,
      source,
      sourcePort: 45_678,
      device: 'right',
      mark: 7,
      tos: 8,
      packetSize: 900,
    });
    expect(run.source).toEqual({ ip: source, port: 45_678 });
    expect(addresses(run)).toEqual(path);
    await expect(root.run({ destination, device: 'nowhere' })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    const foreign = family === 4 ? '192.0.2.77' : '2001:db8::77';
    await expect(root.run({ destination, source: foreign })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  it('of one hop is this host itself', async () => {
    const run = await root.run({ destination: family === 4 ? '127.0.0.1' : '::1' });
    expect(addresses(run)).toEqual([family === 4 ? '127.0.0.1' : '::1']);
    expect(run.reached).toBe(true);
  });

  it('is measured end to end by one probe', async () => {
    const { result } = await root.ask<number>({ probeEnd: { destination, protocol: 'tcp', port: 80 } });
    expect(result).toBeGreaterThan(0);
  });
});

describe('without privileges', () => {
  it('what needs them says so in one line', async () => {
    const destination = near(LENGTH, 4);
    const fails = async (wish: Partial<Wish>): Promise<unknown> =>
      user.run({ destination, ...wish }).catch((error: unknown) => error);
    expect(await fails({ privilege: 'raw' })).toMatchObject({
      code: 'DENIED',
      message: 'failed to create raw socket: operation not permitted',
    });
    for (const wish of [
      { protocol: 'quic' },
      { protocol: 'tcp', tcpMethod: 'sack' },
      { multipath: { confidence: 0.9, maxFlows: 9 } },
    ]) {
      expect(await fails(wish)).toMatchObject({ code: 'DENIED', message: /raw sockets are needed, and not permitted/ });
    }
    hosts[0]!.sysctl({ 'net.ipv4.ping_group_range': '1 0' });
    expect(await fails({ protocol: 'icmp' })).toMatchObject({
      code: 'DENIED',
      message: expect.stringContaining('ping_group_range'),
    });
  });
});

describe('a host without a way', () => {
  it('says which: no route, and nobody at the address', async () => {
    const alone = lab.host('alone');
    const tracer = new TracerProcess(alone);
    for (const destination of ['192.0.2.1', '2001:db8::1']) {
      await expect(tracer.run({ destination })).rejects.toMatchObject({ code: 'NETUNREACH' });
    }
  });
});

describe('two hundred traces at once', () => {
  it('do not take each other’s answers', async () => {
    const wishes = Array.from({ length: 200 }, (_, i): Wish => {
      const family = i % 2 === 0 ? 4 : 6;
      const protocol = ['udp', 'icmp', 'tcp'][i % 3]!;
      return {
        destination: near(1 + (i % LENGTH), family),
        protocol,
        port: protocol === 'tcp' ? 80 : 33_434,
        sendDelay: 20,
      };
    });
    const { result, cpu, took } = await root.ask<ShownRun[]>({ many: wishes });
    for (const [i, run] of result.entries()) {
      const length = 1 + (i % LENGTH);
      expect(addresses(run), `${i}`).toEqual(Array.from({ length }, (_, n) => near(n + 1, i % 2 === 0 ? 4 : 6)));
      expect(run.reached).toBe(true);
    }
    console.log(`200 traces: ${Math.round(took)} ms, ${Math.round(cpu)} ms of CPU`);
  });
});

describe.each([4, 6] as const)(
  'a router that tells of labels and interfaces, over IPv%i and a TUN device',
  (family) => {
    it('is heard', async () => {
      const host = lab.host(`tun${family}`);
      const [router, target] = family === 4 ? ['198.51.100.1', '203.0.113.7'] : ['2001:db8:5::1', '2001:db8:7::7'];
      host.ip('address', 'add', family === 4 ? '192.0.2.5/32' : '2001:db8:1::5/128', 'dev', 'lo');
      await host.spawn(program('hop', router!, target!)).waitForLine(/^ready$/, { timeout: Seconds(60) });
      const run = await new TracerProcess(host).run({ destination: target! });
      expect(addresses(run)).toEqual([router, target]);
      expect(run.hops[0]!.replies[0]!.extensions).toEqual({
        mpls: [
          { label: 1000, trafficClass: 5, bottom: false, ttl: 255 },
          { label: 16, trafficClass: 0, bottom: true, ttl: 1 },
        ],
        interfaces: [{ role: 'incoming', name: 'eth7' }],
      });
    });
  },
);
