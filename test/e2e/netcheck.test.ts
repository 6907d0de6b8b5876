/** `sallyport netcheck` behind every NAT of the laboratory, with a real relay; and beside a role that runs. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import type { NetcheckResult } from '../../src/cli/commands/netcheck.js';
import { Lab } from '../lab/lab.js';
import type { NatSettings } from '../lab/nat.js';
import { REPOSITORY } from '../lab/services.js';
import { ADDRESSES, type StandardTopology, standardTopology } from '../lab/topology.js';
import { runCommand } from './network.js';
import { Role, sallyport } from './role.js';

const unavailable = Lab.unavailable();
const RELAY = [`${ADDRESSES.relay.v4}:4433`, `[${ADDRESSES.relay.v6}]:4433`];

describe.skipIf(unavailable !== undefined)('netcheck', () => {
  let lab: Lab;
  let topology: StandardTopology;
  let folder: string;
  let relay: Role;

  beforeAll(async () => {
    lab = new Lab();
    topology = standardTopology(lab, { user: { kind: 'moderate' } });
    folder = mkdtempSync(join(tmpdir(), 'spl-netcheck-'));
    const net = join(folder, 'net');
    await runCommand(sallyport('init', '--name', 'lab', '--relay', ADDRESSES.relay.v4, '--dir', net));
    cpSync(join(net, 'relay'), join(folder, 'relay'), { recursive: true });
    relay = new Role('relay', topology.relay, join(folder, 'relay'), ['relay', '--dir', join(folder, 'relay')]);
    relay.start();
    await relay.waitForLog('relay ready');
  });
  afterAll(async () => {
    await lab?.destroy();
    rmSync(folder, { recursive: true, force: true });
  });
  beforeEach((context) => {
    context.onTestFailed(() => console.error(relay.describe()));
  });

  /** Another NAT, which has never seen anything. */
  const behind = (settings: NatSettings): void => {
    topology.nats.user[0]!.change(settings);
    topology.nats.user[0]!.restart();
  };
  const check = async (...more: string[]): Promise<NetcheckResult> => {
    const argv = sallyport('netcheck', '--json', ...RELAY.flatMap((one) => ['--relay', one]), ...more);
    return JSON.parse((await topology.user.exec(argv)).stdout) as NetcheckResult;
  };

  it.each([
    ['open', { kind: 'open', hairpin: true }, 'full or restricted cone', 'open', true],
    ['address-restricted', { kind: 'moderate', filtering: 'address' }, 'full or restricted cone', 'open', false],
    ['port-restricted', { kind: 'moderate' }, 'port-restricted cone', 'port', false],
    ['strict', { kind: 'strict' }, 'symmetric', 'strict', false],
  ] as const)('knows a NAT that is %s', async (_name, settings, name, ease, hairpin) => {
    behind(settings);
    const result = await check();
    expect(result.udp).toBe(true);
    expect(result.relayHasSecondPort).toBe(true);
    expect(result.relays.map(({ address }) => address)).toEqual(RELAY);
    for (const { rttMilliseconds } of result.relays) expect(rttMilliseconds).toBeGreaterThan(0);
    for (const [family, report] of [
      ['v4', result.ipv4],
      ['v6', result.ipv6],
    ] as const) {
      expect(report).toMatchObject({ works: true, name, ease, hairpin, preservesPort: settings.kind !== 'strict' });
      expect(report!.publicAddress).toContain(ADDRESSES.user[family]);
    }
  });

  it('knows no NAT, and a firewall, from each other', async () => {
    const argv = (host: 'relay' | 'service'): string[] =>
      sallyport('netcheck', '--json', '--relay', RELAY[0]!, ...(host === 'relay' ? [] : ['--relay', RELAY[1]!]));
    const open = JSON.parse((await topology.relay.exec(argv('relay'))).stdout) as NetcheckResult;
    expect(open.ipv4).toMatchObject({ name: 'no NAT', mapping: 'none', ease: 'open' });
    const closed = JSON.parse((await topology.service.exec(argv('service'))).stdout) as NetcheckResult;
    expect(closed.ipv4).toMatchObject({ name: 'firewall', mapping: 'none', ease: 'port' });
    expect(closed.ipv6).toMatchObject({ name: 'firewall', mapping: 'none', ease: 'port' });
  });

  it('says that UDP is blocked, and that a relay has no second port', async () => {
    behind({ kind: 'moderate', udp: false });
    const blocked = await check();
    expect(blocked).toMatchObject({ udp: false, ipv4: { name: 'UDP blocked', ease: 'blocked' } });
    expect(blocked.relays.every(({ rttMilliseconds }) => rttMilliseconds === undefined)).toBe(true);
    behind({ kind: 'moderate' });
    const small = join(folder, 'small');
    cpSync(join(folder, 'net', 'relay'), small, { recursive: true });
    const listen = ['--listen', '0.0.0.0:5433', '--control', '0.0.0.0:9443', '--probe-port', '0'];
    const other = new Role('small', topology.relay, small, ['relay', '--dir', small, ...listen]);
    other.start();
    await other.waitForLog('relay ready');
    const argv = sallyport('netcheck', '--json', '--relay', `${ADDRESSES.relay.v4}:5433`);
    const result = JSON.parse((await topology.user.exec(argv)).stdout) as NetcheckResult;
    expect(result).toMatchObject({ udp: true, relayHasSecondPort: false, ipv4: { name: 'unknown', ease: 'unknown' } });
    expect(result.ipv6).toBeUndefined();
    await other.stop();
  });

  it('measures how long an idle mapping lives, while the relay answers later', async () => {
    behind({ kind: 'moderate', lifetime: Seconds(3) });
    const module = join(REPOSITORY, 'dist', 'node', 'netcheck', 'lifetime.js');
    const script = `
      import { measureLifetime } from ${JSON.stringify(module)};
      import { SystemEntropy } from ${JSON.stringify(join(REPOSITORY, 'dist', 'os', 'entropy.js'))};
      import { SocketAddress } from ${JSON.stringify(join(REPOSITORY, 'dist', 'base', 'address.js'))};
      const relay = SocketAddress.parse(${JSON.stringify(RELAY[0])});
      console.log(JSON.stringify(await measureLifetime(relay, new SystemEntropy(), [1, 2, 4, 60])));
      process.exit(process.getActiveResourcesInfo().includes('Timeout') ? 1 : 0);`;
    const { stdout } = await topology.user.exec([process.execPath, '--input-type=module', '-e', script]);
    expect(JSON.parse(stdout)).toEqual({ atLeast: 2, lessThan: 4 });
  });

  it('shows all of it to people within 80 columns', async () => {
    behind({ kind: 'moderate', ipv6: 'none', lifetime: Seconds(30) });
    const argv = sallyport('netcheck', ...RELAY.flatMap((one) => ['--relay', one]));
    const { stdout } = await topology.user.exec(argv);
    expect(stdout).toMatch(/^UDP: works; peers get through unless their NAT is symmetric$/m);
    expect(stdout).toMatch(/^NAT +port-restricted cone +UDP blocked$/m);
    expect(stdout).toMatch(/^198\.51\.100\.2:4433 +\d+\.\d ms$/m);
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  it('refuses what is no relay address, and says which name is not found', async () => {
    const refused = await runCommand(sallyport('netcheck', '--relay', 'relay'));
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toContain('relay is not HOST:PORT');
    const lost = await topology.user.exec(sallyport('netcheck', '--relay', 'nowhere.invalid:1'), { check: false });
    expect(lost.code).toBe(1);
    expect(lost.stderr).toContain('nowhere.invalid cannot be resolved');
  });
});
