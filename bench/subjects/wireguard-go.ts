/**
 * wireguard-go, straight between user and service: built from the newest published version of its Go module into a cache folder,
 * configured through its UAPI socket.
 *
 *   user: 10.90.0.1 ── wg0 ══ UDP 51820 ══ wg0 ── service: 10.90.0.2
 *
 * The device has another name in every run and on each side, because the socket's path, /var/run/wireguard/NAME.sock, is one
 * for all namespaces.
 */
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SallyportError } from '../../src/base/error.js';
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../../test/lab/host.js';
import { type LabProcess, pollUntil } from '../../test/lab/process.js';
import { ADDRESSES } from '../../test/lab/topology.js';
import { cacheFolder } from '../machine.js';
import type { RunningSubject, Subject, SubjectContext } from '../subject.js';

const MODULE = 'golang.zx2c4.com/wireguard';
const PORT = 51820;
const USER_ADDRESS = '10.90.0.1';
const SERVICE_ADDRESS = '10.90.0.2';

interface Keys {
  /** Hexadecimal, as UAPI wants them. */
  readonly secret: string;
  readonly public: string;
}

export class WireguardGo implements Subject {
  readonly name = 'wireguard-go';
  private binary = '';
  private runs = 0;

  async prepare(): Promise<string> {
    const run = promisify(execFile);
    try {
      const cwd = cacheFolder();
      const { stdout } = await run('go', ['list', '-m', '-f', '{{.Version}}', `${MODULE}@latest`], { cwd });
      const version = stdout.trim();
      const folder = join(cwd, `wireguard-go-${version}`);
      this.binary = join(folder, 'wireguard');
      if (!existsSync(this.binary)) {
        mkdirSync(folder, { recursive: true });
        await run('go', ['install', `${MODULE}@${version}`], { cwd, env: { ...process.env, GOBIN: folder } });
      }
      const { stdout: go } = await run('go', ['version', this.binary]);
      return `${version}, ${go.trim().split(' ').at(-1)}`;
    } catch (cause) {
      const message = `wireguard-go cannot be built here: ${(cause as Error).message.split('\n')[0]}`;
      throw new SallyportError('environment', 'BENCH_SUBJECT_UNAVAILABLE', message, { cause });
    }
  }

  async start(context: SubjectContext): Promise<RunningSubject> {
    const { user, service } = context.topology;
    const name = `wg${process.pid}r${this.runs++}`;
    const [userKeys, serviceKeys] = [makeKeys(), makeKeys()];
    const [userEnd, serviceEnd] = await Promise.all([
      this.startEnd(user, `${name}u`, USER_ADDRESS, context.mtu, [
        `private_key=${userKeys.secret}`,
        `public_key=${serviceKeys.public}`,
        `endpoint=${ADDRESSES.service.v4}:${PORT}`,
        `allowed_ip=${SERVICE_ADDRESS}/32`,
      ]),
      this.startEnd(service, `${name}s`, SERVICE_ADDRESS, context.mtu, [
        `private_key=${serviceKeys.secret}`,
        `listen_port=${PORT}`,
        `public_key=${userKeys.public}`,
        `allowed_ip=${USER_ADDRESS}/32`,
      ]),
    ]);
    return {
      target: SERVICE_ADDRESS,
      device: { host: user, name: `${name}u` },
      processes: { user: userEnd, service: serviceEnd },
      stop: async () => {
        await Promise.all([userEnd.stop(), serviceEnd.stop()]);
      },
    };
  }

  private async startEnd(
    host: Host,
    device: string,
    address: string,
    mtu: number,
    configuration: readonly string[],
  ): Promise<LabProcess> {
    const started = host.spawn([this.binary, '-f', device], { env: { LOG_LEVEL: 'error' } });
    const socket = `/var/run/wireguard/${device}.sock`;
    await pollUntil(`the control socket of ${device}`, () => existsSync(socket) || !started.running, Seconds(10));
    await configure(socket, configuration);
    host.ip('address', 'add', `${address}/24`, 'dev', device);
    host.ip('link', 'set', device, 'mtu', String(mtu), 'up');
    return started;
  }
}

async function configure(path: string, lines: readonly string[]): Promise<void> {
  const socket = connect(path);
  let answer = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    answer += text;
    if (answer.endsWith('\n\n')) socket.end();
  });
  socket.write(`set=1\n${lines.join('\n')}\n\n`);
  await once(socket, 'close');
  if (!answer.includes('errno=0\n')) {
    throw new SallyportError(
      'environment',
      'BENCH_SUBJECT_FAILED',
      `wireguard-go refused its configuration: ${answer}`,
    );
  }
}

function makeKeys(): Keys {
  const { privateKey } = generateKeyPairSync('x25519');
  const jwk = privateKey.export({ format: 'jwk' });
  const hex = (text = ''): string => Buffer.from(text, 'base64url').toString('hex');
  return { secret: hex(jwk.d), public: hex(jwk.x) };
}
