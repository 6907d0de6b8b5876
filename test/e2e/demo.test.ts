/** `npm run demo -- --once` works without root, without a network, and without leaving anything behind. */
import { chmodSync, chownSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { run } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { REPOSITORY } from '../lab/services.js';
import { runCommand } from './network.js';

const NOBODY = 65_534;
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--inh-caps=-all', '--'];

describe.skipIf(Lab.unavailable() !== undefined)('the demo', () => {
  let lab: Lab;
  const home = mkdtempSync(join(tmpdir(), 'spl-e2e-'));

  beforeAll(async () => {
    lab = new Lab();
    // The owner of the repository has built it; somebody else may only run it.
    for (const argv of [['scripts/build-native.mjs'], ['node_modules/typescript/bin/tsc', '-b']]) {
      const built = await runCommand([process.execPath, ...argv], { cwd: REPOSITORY });
      if (built.code !== 0) throw new Error(`${argv.join(' ')}: ${built.stdout}${built.stderr}`);
    }
    chmodSync(home, 0o755);
    chownSync(home, NOBODY, NOBODY);
  });
  afterAll(async () => {
    await lab?.destroy();
    rmSync(home, { recursive: true, force: true });
  });

  /** A repository that only root can read cannot be shown as somebody else. */
  const isReadable = async (): Promise<boolean> => {
    const host = lab.hosts.get('demo')!;
    return (await host.exec([...AS_NOBODY, 'ls', join(REPOSITORY, 'dist')], { check: false })).code === 0;
  };

  it('fetches the page and ends', async () => {
    const host = lab.host('demo');
    const user = (await isReadable()) ? AS_NOBODY : [];
    const { stdout, stderr } = await host.exec([...user, 'npm', 'run', 'demo', '--', '--once'], {
      cwd: REPOSITORY,
      env: { HOME: home, TMPDIR: home, npm_config_cache: join(home, 'cache'), npm_config_update_notifier: 'false' },
      timeout: Seconds(110),
    });
    expect(stdout).toContain('<h1>It works</h1>');
    expect(stdout).toMatch(/path: agent → relay → connector office/);
    expect(stderr).not.toMatch(/error/i);
    expect(run(['ip', 'netns', 'pids', host.namespace])).toBe('');
    expect(readdirSync(home).filter((name) => name.startsWith('sallyport-demo'))).toEqual([]);
  });

  it('shows two NATs: the relay first, direct, cut and restored', async () => {
    const { stdout } = await runCommand([process.execPath, 'scripts/demo.mjs', '--nat'], { cwd: REPOSITORY });
    expect(stdout).toMatch(/^2 {2}first answer of the service after \d+ ms/m);
    expect(stdout).toMatch(/^3 {2}both sides have punched/m);
    expect(stdout).toMatch(/^4 {2}the direct path is cut: packets take the relay again \d+ ms later$/m);
    expect(stdout).toMatch(/^5 {2}the path is whole again: direct after \d+ ms$/m);
    expect(stdout).toMatch(/^ +round trip [\d.]+ ms; \d+ pings lost on the way back$/m);
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(110);
  });
});
