/** The laboratory keeps its promises: isolation, waiting by events, and nothing left behind. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { Lab, listNamespaces } from './lab.js';
import { NAMESPACE_PREFIX, parseNamespace, processStart } from './naming.js';
import { LabProcess, pollUntil } from './process.js';

const unavailable = Lab.unavailable();
if (unavailable !== undefined) console.warn(`laboratory tests skipped: ${unavailable}`);

const labs: Lab[] = [];
const newLab = (): Lab => {
  const lab = new Lab();
  labs.push(lab);
  return lab;
};
const mine = (): string[] => listNamespaces().filter((name) => parseNamespace(name)?.pid === process.pid);
const alive = (pid: number): boolean => processStart(pid) !== undefined;

afterEach(async () => {
  for (const lab of labs.splice(0)) await lab.destroy();
});

describe.skipIf(unavailable !== undefined)('Lab', () => {
  it('joins hosts that nobody else reaches', async () => {
    const lab = newLab();
    const [left, right, other] = [lab.host('left'), lab.host('right'), lab.host('other')];
    lab.link(
      { host: left, addresses: ['192.0.2.1/24', '2001:db8::1/64'] },
      { host: right, addresses: ['192.0.2.2/24', '2001:db8::2/64'] },
    );
    for (const address of ['192.0.2.2', '2001:db8::2']) {
      expect((await left.exec(['ping', '-c', '1', '-W', '2', address])).stdout).toContain(' 0% packet loss');
    }
    expect((await other.exec(['ping', '-c', '1', '-W', '1', '192.0.2.2'], { check: false })).code).not.toBe(0);
    expect((await left.exec(['ip', '-o', 'link', 'show', 'to-right'])).stdout).toContain('mtu 1500');
    expect(spawnSync('ip', ['-o', 'link', 'show', 'to-right']).status).not.toBe(0);
  });

  it('joins hosts by a switch and gives parallel links names of their own', async () => {
    const lab = newLab();
    const [a, b, c] = [lab.host('a'), lab.host('b'), lab.host('c')];
    lab.lan('floor', [
      { host: a, addresses: ['10.0.0.1/24'] },
      { host: b, addresses: ['10.0.0.2/24'] },
      { host: c, addresses: ['10.0.0.3/24'] },
    ]);
    for (const address of ['10.0.0.2', '10.0.0.3']) await a.exec(['ping', '-c', '1', '-W', '2', address]);
    expect(lab.link({ host: a }, { host: b })).toEqual(['to-b', 'to-a']);
    expect(lab.link({ host: a }, { host: b })).toEqual(['to-b1', 'to-a1']);
  });

  it('removes everything, programs in other process groups included', async () => {
    const lab = newLab();
    const host = lab.host('only');
    const group = host.spawn(['sh', '-c', 'sleep 1000 & setsid sleep 1000 & echo ready; wait']);
    await group.waitForLine(/^ready$/);
    await pollUntil('both sleepers', () => pids(host.namespace).length === 3);
    const started = pids(host.namespace);
    host.resolver('192.0.2.53');
    expect((await host.exec(['cat', '/etc/resolv.conf'])).stdout).toBe('nameserver 192.0.2.53\n');
    await lab.destroy();
    expect(mine()).toEqual([]);
    expect(existsSync(host.configDirectory)).toBe(false);
    await pollUntil('the programs to go', () => !started.some(alive));
  });

  it('reports what failed with its output', async () => {
    const host = newLab().host('only');
    await expect(host.exec(['sh', '-c', 'echo why >&2; exit 3'])).rejects.toThrow(/exit code 3[\s\S]*why/);
    await expect(host.exec(['sleep', '1000'], { timeout: Millis(50) })).rejects.toMatchObject({ code: 'LAB_TIMEOUT' });
    const ending = host.spawn(['sh', '-c', 'echo last words']);
    await expect(ending.waitForLine(/never/)).rejects.toThrow(/exit code 0[\s\S]*last words/);
    const silent = host.spawn(['sleep', '1000']);
    await expect(silent.waitForLine(/never/, { timeout: Millis(50) })).rejects.toMatchObject({ code: 'LAB_TIMEOUT' });
    expect(await silent.stop()).toMatchObject({ signal: 'SIGTERM' });
    const stubborn = host.spawn(['sh', '-c', 'trap "" TERM; echo ready; while :; do sleep 1000; done']);
    await stubborn.waitForLine(/^ready$/);
    expect(await stubborn.stop('SIGTERM', Millis(50))).toMatchObject({ signal: 'SIGKILL' });
    expect(() => host.ip('link', 'set', 'nothing', 'up')).toThrow(/nothing/);
  });

  it('waits for a port of the host it runs in, not of another', async () => {
    const lab = newLab();
    const [here, there] = [lab.host('here'), lab.host('there')];
    const server = here.spawn(['node', '-e', 'require("net").createServer().listen(4711, "::1")']);
    await server.waitForPort('tcp', 4711);
    const other = there.spawn(['sleep', '1000']);
    await expect(other.waitForPort('tcp', 4711, { timeout: Millis(50) })).rejects.toMatchObject({
      code: 'LAB_TIMEOUT',
    });
  });
});

describe.skipIf(unavailable !== undefined)('Lab when its process ends', () => {
  /** Starts a process that makes a laboratory with one program and then does `afterwards`. */
  const makeLab = async (afterwards: string): Promise<{ child: LabProcess; inside: number[]; names: string[] }> => {
    const loader = join(import.meta.dirname, 'typescript.mjs');
    const fixture = join(import.meta.dirname, 'programs', 'lab-process.ts');
    const child = new LabProcess([process.execPath, '--import', loader, fixture, afterwards]);
    await child.waitForLine(/^ready$/, { timeout: Seconds(60) });
    const names = listNamespaces().filter((name) => parseNamespace(name)?.pid === child.pid);
    expect(names).toHaveLength(1);
    const inside = pids(names[0]!);
    expect(inside).toHaveLength(1);
    return { child, inside, names };
  };
  const gone = (names: string[]): boolean => !listNamespaces().some((name) => names.includes(name));

  it.each(['SIGINT', 'SIGTERM'] as const)('%s removes it and keeps its meaning', async (signal) => {
    const { child, inside, names } = await makeLab('wait');
    child.signal(signal);
    expect(await child.exited).toEqual({ code: undefined, signal });
    expect(gone(names)).toBe(true);
    await pollUntil('the program to go', () => !inside.some(alive));
  });

  it('process.exit removes it', async () => {
    const { child, names } = await makeLab('exit');
    child.signal('SIGUSR2');
    expect(await child.exited).toEqual({ code: 5, signal: undefined });
    expect(gone(names)).toBe(true);
  });

  it('cleanStale removes what a killed process left, and nothing of the living', async () => {
    const { child, inside, names } = await makeLab('wait');
    const own = newLab().host('own');
    const foreign = `${NAMESPACE_PREFIX}x-${process.pid}`;
    spawnSync('ip', ['netns', 'add', foreign]);
    try {
      child.signal('SIGKILL');
      await child.exited;
      expect(gone(names)).toBe(false);
      expect(Lab.cleanStale()).toEqual(expect.arrayContaining(names));
      expect(gone(names)).toBe(true);
      expect(listNamespaces()).toEqual(expect.arrayContaining([own.namespace, foreign]));
      await pollUntil('the program to go', () => !inside.some(alive));
    } finally {
      spawnSync('ip', ['netns', 'delete', foreign]);
    }
  });
});

function pids(namespace: string): number[] {
  return spawnSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' })
    .stdout.split('\n')
    .filter((line) => line !== '')
    .map(Number);
}
