import { existsSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Transpiled, transpileSources } from '../../os/transpile.js';
import { ip, Namespaces } from './netns.js';

const namespaces = new Namespaces();
let built: Transpiled;
let space: string;
let journal: string;
let runs = 0;

beforeAll(() => {
  built = transpileSources();
});
afterAll(() => built.remove());
beforeEach(() => {
  space = namespaces.create();
  journal = built.url(`network-${runs++}.journal`).pathname;
  for (const name of ['ox-v0', 'ox-w0']) {
    ip('-n', space, 'link', 'add', name, 'type', 'veth', 'peer', 'name', name.replace('0', '1'));
    for (const end of [name, name.replace('0', '1')]) ip('-n', space, 'link', 'set', end, 'up');
  }
});
afterEach(() => namespaces.removeAll());

/** Runs statements over `network` in the namespace; what `out` is given comes back. */
async function inside(statements: string): Promise<unknown> {
  const script = built.add(
    `network-${runs++}.js`,
    `import { createNetwork } from './os/linux/network.js';
     import { IpAddress } from './base/address.js';
     const network = createNetwork({ journal: ${JSON.stringify(journal)} });
     let result = null;
     const out = (value) => { result = value ?? null; };
     const failure = (act) => { try { act(); return 'none'; } catch (e) { return [e.kind, e.code, e.message]; } };
     ${statements}
     console.log(JSON.stringify(result));`,
  );
  return namespaces.spawn(space, process.execPath, script.pathname).json();
}

const addresses = (device: string): string => ip('-n', space, '-o', 'address', 'show', 'dev', device);
const routes = (): string => ip('-n', space, 'route', 'show') + ip('-n', space, '-6', 'route', 'show');

describe('settings and tables', () => {
  const KEY = 'net/ipv4/conf/ox-v0/forwarding';

  it('are put back and removed, also what a process that died has left', async () => {
    const seen = await inside(`
      const at = () => [network.setting('${KEY}'), failure(() => network.counters('sallyport_ox'))[1]];
      const before = at();
      network.setTable('sallyport_ox', 'table inet sallyport_ox { counter some { }; }');
      network.set('${KEY}', '1');
      network.set('${KEY}', '1');
      network.set('net/ipv4/conf/nowhere/forwarding', '1');
      const counters = network.counters('sallyport_ox');
      out([before, network.setting('${KEY}'), counters, network.setting('net/ipv4/conf/nowhere/forwarding') ?? null]);`);
    expect(seen).toEqual([['0', 'NETWORK_GONE'], '1', { some: 0 }, null]);
    expect(existsSync(journal)).toBe(true);
    const after = await inside(`out([network.setting('${KEY}'), failure(() => network.counters('sallyport_ox'))[1]]);`);
    expect(after).toEqual(['0', 'NETWORK_GONE']);
    expect(existsSync(journal)).toBe(false);
  });

  it('are refused when they are none, and leave no trace in the journal', async () => {
    const failures = await inside(`
      out([
        failure(() => network.set('../etc/passwd', '1')).slice(0, 2),
        failure(() => network.set('net/../../etc', '1')).slice(0, 2),
        failure(() => network.setTable('a b', '')).slice(0, 2),
        failure(() => network.setTable('sallyport_ox', 'nonsense')).slice(0, 2),
      ]);`);
    expect(failures).toEqual([
      ['caller', 'BAD_SETTING'],
      ['caller', 'BAD_SETTING'],
      ['caller', 'BAD_TABLE'],
      ['environment', 'NETWORK_FAILED'],
    ]);
    expect(existsSync(journal)).toBe(false);
  });
});

describe('addresses and routes', () => {
  it('are made, and undone any number of times', async () => {
    await inside(`
      network.addAddress('ox-v0', '10.1.0.1', 24);
      network.addAddress('ox-v0', 'fd01::1', 64);
      network.addRoute('ox-v0', '10.2.0.0/16', '10.1.0.1');
      network.addRoute('ox-v0', 'fd02::/32');`);
    expect(addresses('ox-v0')).toContain('10.1.0.1/24');
    // Usable at once: not waiting for duplicate address detection.
    expect(addresses('ox-v0')).toMatch(/fd01::1\/64 scope global nodad/);
    expect(routes()).toMatch(/10\.2\.0\.0\/16 dev ox-v0 proto 83 .*src 10\.1\.0\.1/);
    expect(routes()).toContain('fd02::/32 dev ox-v0 proto 83');
    expect(existsSync(journal)).toBe(true);
    // The process has ended without undoing: the next one does it at its start.
    await inside('network.undo(); network.undo();');
    expect(addresses('ox-v0')).not.toContain('10.1.0.1');
    expect(addresses('ox-v0')).not.toContain('fd01::1');
    expect(routes()).not.toMatch(/proto 83/);
    expect(existsSync(journal)).toBe(false);
  });

  it('that were there before are left alone', async () => {
    ip('-n', space, 'address', 'add', '10.1.0.1/24', 'dev', 'ox-v0');
    ip('-n', space, 'route', 'add', '10.2.0.0/16', 'dev', 'ox-v0');
    await inside(`
      network.addAddress('ox-v0', '10.1.0.1', 24);
      network.addRoute('ox-v0', '10.2.0.0/16');
      network.removeRoute('ox-v0', '10.2.0.0/16');
      network.undo();`);
    expect(addresses('ox-v0')).toContain('10.1.0.1/24');
    expect(routes()).toContain('10.2.0.0/16 dev ox-v0');
  });

  it('that others removed, or whose device is gone, do not hinder undoing the rest', async () => {
    await inside(`
      network.addAddress('ox-w0', '10.3.0.1', 24);
      network.addAddress('ox-v0', '10.1.0.1', 24);
      network.addRoute('ox-v0', '10.2.0.0/16');
      network.addRoute('ox-w0', '10.4.0.0/16');`);
    ip('-n', space, 'route', 'del', '10.2.0.0/16');
    ip('-n', space, 'link', 'del', 'ox-w0');
    await inside('');
    expect(addresses('ox-v0')).not.toContain('10.1.0.1');
    expect(existsSync(journal)).toBe(false);
  });

  it('conflict when another device has a route for the same prefix, and only then', async () => {
    ip('-n', space, 'route', 'add', '10.2.0.0/16', 'dev', 'ox-w0');
    ip('-n', space, 'route', 'add', 'blackhole', '10.5.0.0/16');
    expect(
      await inside(`
        const conflict = failure(() => network.addRoute('ox-v0', '10.2.0.0/16'));
        const black = failure(() => network.addRoute('ox-v0', '10.5.0.0/16'));
        network.addRoute('ox-v0', '10.2.3.0/24');
        network.addRoute('ox-v0', '10.0.0.0/8');
        out([conflict.slice(0, 2), /ox-w0/.test(conflict[2]), black.slice(0, 2), /blackhole/.test(black[2])]);`),
    ).toEqual([['environment', 'ROUTE_CONFLICT'], true, ['environment', 'ROUTE_CONFLICT'], true]);
    expect(routes()).toContain('10.2.3.0/24 dev ox-v0 proto 83');
  });

  it('can be taken away one by one', async () => {
    await inside(`
      network.addRoute('ox-v0', '10.2.0.0/16');
      network.addRoute('ox-v0', '10.3.0.0/16');
      network.removeRoute('ox-v0', '10.2.0.0/16');
      network.removeRoute('ox-v0', '10.2.0.0/16');`);
    expect(routes()).not.toContain('10.2.0.0/16');
    expect(routes()).toContain('10.3.0.0/16');
  });

  it('can be asked for', async () => {
    ip('-n', space, 'address', 'add', '10.1.0.1/24', 'dev', 'ox-v0');
    ip('-n', space, 'route', 'add', 'default', 'via', '10.1.0.254');
    expect(
      await inside(`
        const tell = (address) => {
          const choice = network.routeTo(IpAddress.parse(address));
          return choice === undefined ? 'none' : [choice.device, String(choice.gateway), String(choice.source)];
        };
        out([network.routes().filter((r) => r.prefix.ip.isV4).map((r) => r.prefix + ' ' + r.device).sort(),
             tell('10.1.0.7'), tell('192.0.2.1'), tell('2001:db8::1')]);`),
    ).toEqual([
      ['0.0.0.0/0 ox-v0', '10.1.0.0/24 ox-v0'],
      ['ox-v0', 'undefined', '10.1.0.1'],
      ['ox-v0', '10.1.0.254', '10.1.0.1'],
      'none',
    ]);
  });

  it('are refused with a reason', async () => {
    expect(
      await inside(`
        out([() => network.addAddress('ox-none', '10.1.0.1', 24), () => network.addAddress('ox-v0', '10.1.0', 24),
             () => network.addRoute('-4', '10.0.0.0/8'), () => network.addRoute('ox-v0', '10.0.0.0/33'),
             () => network.linkUp('ox-v0; reboot', 1280)].map((act) => failure(act).slice(0, 2)));`),
    ).toEqual([
      ['environment', 'NETWORK_GONE'],
      ['caller', 'BAD_ADDRESS'],
      ['caller', 'BAD_DEVICE'],
      ['caller', 'BAD_PREFIX'],
      ['caller', 'BAD_DEVICE'],
    ]);
    expect(existsSync(journal)).toBe(false);
  });

  it('need permission', async () => {
    expect(
      await inside(`
        process.setgroups([]); process.setgid(65534); process.setuid(65534);
        out(failure(() => network.linkUp('ox-v0', 1400)).slice(0, 2));`),
    ).toEqual(['environment', 'NETWORK_NOT_PERMITTED']);
  });
});
