import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { datadogTraceroute } from '../../../src/cli/trace/datadog.js';
import { COMPATIBLE_FLAGS } from '../../../src/cli/trace/flags.js';
import { SystemClock } from '../../../src/os/clock.js';
import { createCrypto } from '../../../src/os/crypto.js';
import { SystemEntropy } from '../../../src/os/entropy.js';
import { FakeEngine, fakeEnvironment } from '../../trace/fake-engine.js';

async function ran(...argv: readonly string[]): Promise<{ status: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const status = await datadogTraceroute(argv, {
    context: {
      crypto: createCrypto(),
      clock: new SystemClock(),
      entropy: new SystemEntropy(),
      environment: {},
      out: (text) => {
        out += `${text}\n`;
      },
      note: (text) => {
        err += `${text}\n`;
      },
    },
    terminal: undefined,
    signal: new AbortController().signal,
    environment: () => fakeEnvironment(new FakeEngine()),
  });
  return { status, out, err };
}

/** What bash offers for the last of these words. */
function offered(script: string, ...words: readonly string[]): string[] {
  const program = `${script}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
_datadog_traceroute; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync('bash', ['-c', program], { encoding: 'utf8' }).split('\n').filter(Boolean);
}

describe('datadog-traceroute completion', () => {
  it('completes flags, values and commands in bash', async () => {
    const { status, out } = await ran('completion', 'bash');
    expect(status).toBe(0);
    expect(offered(out, 'datadog-traceroute', '--t')).toEqual(['--traceroute-queries', '--timeout', '--tcp-method']);
    expect(offered(out, 'datadog-traceroute', '-P', '')).toEqual(['udp', 'tcp', 'icmp']);
    expect(offered(out, 'datadog-traceroute', '--tcp-method', 's')).toEqual(['syn', 'sack']);
    expect(offered(out, 'datadog-traceroute', '--port', '')).toEqual([]);
    expect(offered(out, 'datadog-traceroute', 'v')).toEqual(['version']);
    expect(offered(out, 'datadog-traceroute', 'completion', '')).toEqual(['bash', 'zsh', 'fish', 'powershell']);
  });

  it.each(['bash', 'zsh', 'fish', 'powershell'])(
    'names every flag in %s, with and without descriptions',
    async (shell) => {
      const full = (await ran('completion', shell)).out;
      const bare = (await ran('completion', shell, '--no-descriptions')).out;
      for (const { name } of COMPATIBLE_FLAGS) {
        const word = shell === 'fish' ? `-l ${name}` : `--${name}`;
        expect(full).toContain(word);
        expect(bare).toContain(word);
      }
      for (const command of ['completion', 'help', 'version']) expect(full).toContain(command);
      expect(full.includes('find out the public address')).toBe(shell !== 'bash');
      expect(bare).not.toContain('find out the public address');
      expect(full).toContain('prefer_sack');
      // What has a quote in its text does not end a string early.
      expect(full.replace(/'\\''|''|\\'/g, '').split("'").length % 2).toBe(1);
    },
  );

  it('shows its help without a shell, and fails for one that it does not know', async () => {
    for (const argv of [['completion'], ['completion', '--help'], ['help', 'completion']]) {
      const { status, out } = await ran(...argv);
      expect([status, out.startsWith('Usage:\n  datadog-traceroute completion [command]')]).toEqual([0, true]);
    }
    for (const [argv, message] of [
      [['completion', 'tcsh'], 'unknown command "tcsh" for "datadog-traceroute completion"'],
      [['completion', 'bash', 'x'], 'unknown command "x" for "datadog-traceroute completion bash"'],
      [['completion', 'bash', '--proto', 'udp'], 'unknown flag: --proto'],
    ] as const) {
      const { status, out, err } = await ran(...argv);
      expect([status, out, err.split('\n')[0]]).toEqual([1, '', `Error: ${message}`]);
      expect(err).toContain('\nUsage:\n  datadog-traceroute completion [command]\n');
    }
  });
});

describe('the commands of datadog-traceroute', () => {
  it('are found behind flags, and are no targets', async () => {
    expect((await ran('version')).out).toMatch(/^Version: /);
    expect((await ran('-v', 'version')).err).toContain("unknown shorthand flag: 'v' in -v");
    expect((await ran('version', '--help')).out).toContain('datadog-traceroute version [flags]');
    expect((await ran('help', 'version')).out).toContain('datadog-traceroute version [flags]');
    expect((await ran('-P', 'version')).err).toContain('accepts 1 arg(s), received 0');
    const after = await ran('target.example', 'version', '-q', '1', '-Q', '1');
    expect([after.status, after.err.split('\n')[0]]).toEqual([1, 'Error: accepts 1 arg(s), received 2']);
    expect((await ran('--', 'version')).err).toContain('failed to resolve host "version"');
  });

  it('help of something else is a remark, not a failure', async () => {
    const { status, out, err } = await ran('help', 'nonsense');
    expect([status, out, err.split('\n')[0]]).toEqual([0, '', 'Unknown help topic [`nonsense`]']);
  });
});
