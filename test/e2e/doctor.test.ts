/** `sallyport doctor` with the real programs: on a machine where all is well, and where one thing after the other is not. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Check } from '../../src/cli/doctor/check.js';
import { Lab } from '../lab/lab.js';
import { ADDRESSES } from '../lab/topology.js';
import { Network } from './network.js';
import { sallyport } from './role.js';

interface Result {
  readonly healthy: boolean;
  readonly checks: readonly Check[];
}

describe.skipIf(Lab.unavailable() !== undefined)('doctor', () => {
  let network: Network;

  beforeAll(async () => {
    network = await Network.make({ services: { host: `icmp://${ADDRESSES.backend.v4}` } });
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));

  const run = (dir: string, ...more: string[]) =>
    network.topology.user.exec(sallyport('doctor', '--dir', dir, ...more), { check: false });
  const examine = async (dir = network.agent.dir): Promise<{ code: number; stderr: string } & Result> => {
    const { code, stdout, stderr } = await run(dir, '--json');
    return { code, stderr, ...(JSON.parse(stdout) as Result) };
  };
  const verdicts = ({ checks }: Result): Record<string, string> =>
    Object.fromEntries(checks.filter(({ verdict }) => verdict !== 'ok').map(({ id, verdict }) => [id, verdict]));

  it('finds nothing wrong beside a running agent; its connector needs no TUN device', async () => {
    const healthy = await examine();
    expect([healthy.code, healthy.healthy, verdicts(healthy)]).toEqual([0, true, {}]);
    expect(healthy.checks.map(({ id }) => id)).toEqual(
      Array.from({ length: 11 }, (_, i) => `SP${String(i + 1).padStart(3, '0')}`),
    );
    const text = (await run(network.agent.dir)).stdout;
    expect(text).toMatch(/^SP006 {2}ok {4}relay over UDP {2}198\.51\.100\.2:4433 in \d+\.\d ms$/m);
    expect(text).toMatch(/^SP009 {2}ok {4}NAT {13}IPv4: no NAT$/m);
    expect(verdicts(await examine(network.connector.dir))).toEqual({ SP010: 'skip' });
  });

  it('names the folder’s faults', async () => {
    const none = await examine(join(network.folder, 'nowhere'));
    expect([none.code, none.checks.length, none.checks[0]]).toMatchObject([1, 1, { id: 'SP001', verdict: 'fail' }]);
    expect(none.stderr).toContain('1 of 1 checks failed: SP001');
    chmodSync(join(network.agent.dir, 'key.pem'), 0o644);
    const open = await examine();
    chmodSync(join(network.agent.dir, 'key.pem'), 0o600);
    expect([open.code, verdicts(open)]).toEqual([1, { SP002: 'fail' }]);
    expect(open.checks[1]).toMatchObject({
      evidence: expect.stringContaining('0644'),
      fix: expect.stringContaining('chmod'),
    });
  });

  it('tells UDP that is blocked from a relay that is away', async () => {
    network.topology.net.nft(`
      table inet lab_doctor {
        chain forward {
          type filter hook forward priority 0; policy accept;
          ip saddr ${ADDRESSES.user.v4} meta l4proto udp drop
        }
      }`);
    const blocked = await examine();
    network.topology.net.nft('delete table inet lab_doctor');
    expect(blocked.checks[5]).toMatchObject({ verdict: 'warn', evidence: expect.stringContaining('over TCP') });
    expect(verdicts(blocked)).toMatchObject({ SP009: 'skip' });
    await network.agent.stop();
    await network.relay.stop();
    const away = await examine();
    expect([away.code, verdicts(away)]).toEqual([
      1,
      { SP006: 'fail', SP007: 'fail', SP008: 'skip', SP009: 'skip', SP011: 'warn' },
    ]);
  });
});
