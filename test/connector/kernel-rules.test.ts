/** What mode kernel asks of the host: packet rules that follow the services, and forwarding where it is needed. */
import { describe, expect, test } from 'vitest';
import { Prefix } from '../../src/base/address.js';
import { serviceBackend } from '../../src/connector/backends.js';
import { Forwarding, interfacesOf } from '../../src/connector/forwarding.js';
import { kernelPlan } from '../../src/connector/kernel-plan.js';
import { type KernelService, overlayPrefixes, servicesScript, tableOf } from '../../src/connector/kernel-rules.js';
import { parseDocument } from '../../src/policy/document.js';
import { compile } from '../../src/policy/view.js';
import { policyDocument } from '../support/identities.js';

const NOTHING = { v4: [], v6: [] };
const service = (more: Partial<KernelService>): KernelService => ({
  protocols: ['tcp'],
  virtual: ['10.100.0.1', 'fd00::1'],
  prefix: undefined,
  address: undefined,
  port: 0,
  ...more,
});
/** The elements that the script adds to a map or set. */
const elements = (
  services: readonly KernelService[],
  name: string,
  opened: Parameters<typeof servicesScript>[2] = NOTHING,
) => {
  const script = servicesScript('sp0', { ula: 'fd00:1:2::/48', services }, opened);
  expect(script).toMatch(new RegExp(`^flush (map|set) inet sallyport_sp0 ${name}$`, 'm'));
  return new RegExp(`^add element inet sallyport_sp0 ${name} \\{ (.*) \\}$`, 'm').exec(script)?.[1];
};

describe('the rules', () => {
  test('translate by protocol: to the port of the service, or to the one that was asked for', () => {
    const any = ['tcp', 'udp', 'icmp'] as const;
    const box = [service({ protocols: any, address: '10.0.0.5' })];
    expect(elements(box, 'host4')).toBe(
      '10.100.0.1 . tcp : 10.0.0.5, 10.100.0.1 . udp : 10.0.0.5, 10.100.0.1 . icmp : 10.0.0.5',
    );
    expect(elements(box, 'port4')).toBeUndefined();
    const six = [service({ protocols: any, address: 'fd01::5', port: 80 })];
    expect(elements(six, 'port6')).toBe('fd00::1 . tcp : fd01::5 . 80, fd00::1 . udp : fd01::5 . 80');
    expect(elements(six, 'host6')).toBe('fd00::1 . ipv6-icmp : fd01::5');
    expect(elements(six, 'port4')).toBeUndefined();
  });

  test('let real prefixes pass as they are, and leave out what has no address yet', () => {
    const net = service({ virtual: [], prefix: '10.20.0.0/24' });
    expect(elements([net, service({})], 'real4')).toBe('10.20.0.0/24');
    expect(elements([net, service({})], 'host4')).toBeUndefined();
  });

  test('know the agents’ ranges and the interfaces that forward because of us', () => {
    expect(elements([], 'agents4')).toBe('100.64.0.0/10');
    expect(elements([], 'agents6')).toBe('fd00:1:2:2::/64');
    expect(overlayPrefixes(undefined)).toEqual(['100.64.0.0/10']);
    expect(elements([], 'opened4', { v4: ['eth0', 'eth1.5'], v6: [] })).toBe('"eth0", "eth1.5"');
    expect(tableOf('sp-0.1')).toBe('sallyport_sp_0_1');
  });

  test('follow the services of this very connector that have a backend', () => {
    const document = policyDocument();
    const lan = { id: 'lan', protocols: ['udp' as const], ports: 'any' as const, target: 'cidr' as const };
    const services = [...document.services, { ...lan, prefix: '10.20.0.0/24', connectors: ['c1'] }];
    const backends = new Map(
      Object.entries({
        web: 'tcp://10.0.0.5:8080',
        far: 'tcp://10.0.0.9:1',
        box: 'any://host.lan',
        lan: 'udp://10.20.0.0/24',
      }).map(([id, url]) => [id, serviceBackend(id, url)]),
    );
    const plan = kernelPlan(compile(parseDocument({ ...document, services })), 'c1', backends);
    expect(plan.services).toMatchObject([
      { virtual: ['10.100.0.1', expect.stringMatching(/::1$/)], address: '10.0.0.5', port: 8080 },
      { protocols: ['tcp', 'udp', 'icmp'], address: undefined, port: 0 },
      { virtual: [], prefix: '10.20.0.0/24' },
    ]);
    expect(kernelPlan(undefined, 'c1', backends)).toEqual({ ula: undefined, services: [] });
  });
});

describe('forwarding', () => {
  const routes = (...list: readonly (readonly [string, string])[]) =>
    list.map(([prefix, device]) => ({ prefix: Prefix.parse(prefix)!, device }));
  const ROUTES = routes(
    ['0.0.0.0/0', 'eth0'],
    ['10.20.0.0/24', 'lan0'],
    ['10.20.0.128/25', 'lan1'],
    ['fd00:20::/64', 'lan0'],
  );

  test('concerns the interfaces towards services, and none for what is on this host', () => {
    const of = (services: readonly KernelService[]) =>
      interfacesOf(services, ROUTES, new Set(['127.0.0.1', '10.20.0.1']));
    expect([...of([service({ address: '10.20.0.5' })]).v4]).toEqual(['lan0']);
    expect([...of([service({ address: '192.0.2.1' })]).v4]).toEqual(['eth0']);
    expect([...of([service({ address: '10.20.0.1' })]).v4]).toEqual([]);
    const net = of([service({ prefix: '10.20.0.0/24' }), service({ prefix: 'fd00:20::/64' })]);
    expect([[...net.v4], [...net.v6]]).toEqual([['lan0', 'lan1'], ['lan0']]);
  });

  const host = (given: Readonly<Record<string, string>>) => {
    const settings = new Map(Object.entries(given));
    const forwarding = new Forwarding((key) => settings.get(key), 'sp0');
    return (v4: readonly string[], v6: readonly string[]) => {
      const plan = forwarding.plan({ v4: new Set(v4), v6: new Set(v6) }, ['eth0', 'lan0', 'sp0']);
      for (const [key, value] of plan.changes) settings.set(key, value);
      return { changes: plan.changes.map(([key, value]) => `${key.slice(4)}=${value}`), opened: plan.opened };
    };
  };

  test('is switched on where it is off, and remembered', () => {
    const plan = host({
      'net/ipv4/conf/sp0/forwarding': '0',
      'net/ipv4/conf/lan0/forwarding': '0',
      'net/ipv4/conf/eth0/forwarding': '1',
      'net/ipv6/conf/all/forwarding': '0',
      'net/ipv6/conf/sp0/force_forwarding': '0',
      'net/ipv6/conf/lan0/force_forwarding': '0',
    });
    const first = plan(['lan0', 'eth0'], ['lan0']);
    expect(first.changes).toEqual([
      'ipv4/conf/sp0/forwarding=1',
      'ipv4/conf/lan0/forwarding=1',
      'ipv6/conf/sp0/force_forwarding=1',
      'ipv6/conf/lan0/force_forwarding=1',
    ]);
    expect(first.opened).toEqual({ v4: ['lan0'], v6: ['lan0'] });
    expect(plan(['lan0'], [])).toEqual({ changes: [], opened: { v4: ['lan0'], v6: ['lan0'] } });
  });

  test('of IPv6 on an older kernel is the host’s as a whole; routes of advertisements stay', () => {
    const settings = {
      'net/ipv6/conf/all/forwarding': '0',
      'net/ipv6/conf/eth0/accept_ra': '1',
      'net/ipv6/conf/lan0/accept_ra': '0',
    };
    expect(host(settings)([], [])).toEqual({ changes: [], opened: NOTHING });
    expect(host(settings)([], ['lan0'])).toEqual({
      changes: ['ipv6/conf/eth0/accept_ra=2', 'ipv6/conf/all/forwarding=1'],
      opened: { v4: [], v6: ['eth0', 'lan0'] },
    });
    expect(host({ 'net/ipv6/conf/all/forwarding': '1' })([], ['lan0']).changes).toEqual([]);
  });
});
