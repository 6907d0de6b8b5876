/**
 * tinc 1.0 from the distribution, in router mode. It has no authenticated cipher: AES-128-CBC with HMAC-SHA-256 is the strongest
 * comparable thing it offers.
 */
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SallyportError } from '../../src/base/error.js';
import type { RunningSubject, Subject, SubjectContext } from '../subject.js';
import { configureDevice, deviceOf, type End, startBoth } from './point-to-point.js';

const PORT = 655;
/** Bits of the RSA keys; the program's own default. */
const KEY_BITS = 2048;

interface Keys {
  readonly secret: string;
  readonly public: string;
}

export class Tinc implements Subject {
  readonly name = 'tinc';

  async prepare(): Promise<string> {
    try {
      const { stdout } = await promisify(execFile)('tincd', ['--version']);
      return `${/version (\S+)/.exec(stdout)?.[1] ?? 'unknown'}, AES-128-CBC and HMAC-SHA-256`;
    } catch (cause) {
      const message = `tinc is not installed: ${(cause as Error).message.split('\n')[0]}`;
      throw new SallyportError('environment', 'BENCH_SUBJECT_UNAVAILABLE', message, { cause });
    }
  }

  async start(context: SubjectContext): Promise<RunningSubject> {
    const keys = { user: makeKeys(), service: makeKeys() };
    return startBoth(context, 'ti', async (end) => {
      const folder = configuration(context.folder, end, keys);
      // Full path: Debian's tincd lies where not every PATH looks.
      const argv = ['/usr/sbin/tincd', '-c', folder, '-D', '-d1', `--pidfile=${join(folder, 'pid')}`];
      const started = end.host.spawn(argv);
      await deviceOf(end, started);
      configureDevice(end, context.mtu);
      return started;
    });
  }
}

/** Writes the configuration of one side; returns its folder. */
function configuration(base: string, end: End, keys: Readonly<Record<End['role'], Keys>>): string {
  const folder = join(base, end.role);
  mkdirSync(join(folder, 'hosts'), { recursive: true });
  const main = [`Name = ${end.role}`, `Interface = ${end.device}`, 'Mode = router', `Port = ${PORT}`];
  if (end.role === 'user') main.push('ConnectTo = service');
  writeFileSync(join(folder, 'tinc.conf'), `${main.join('\n')}\n`);
  writeFileSync(join(folder, 'rsa_key.priv'), keys[end.role].secret, { mode: 0o600 });
  for (const [role, inner, outer] of [
    [end.role, end.inner, end.outer],
    [end.role === 'user' ? 'service' : 'user', end.otherInner, end.otherOuter],
  ] as const) {
    const lines = [
      `Address = ${outer}`,
      `Port = ${PORT}`,
      `Subnet = ${inner}/32`,
      'Cipher = aes-128-cbc',
      'Digest = sha256',
      keys[role].public,
    ];
    writeFileSync(join(folder, 'hosts', role), lines.join('\n'));
  }
  return folder;
}

function makeKeys(): Keys {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: KEY_BITS, publicExponent: 0x10001 });
  return {
    secret: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString(),
    public: publicKey.export({ type: 'pkcs1', format: 'pem' }).toString(),
  };
}
