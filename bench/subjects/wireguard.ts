/**
 * WireGuard in user space, by two programs that take the same configuration through the same socket (UAPI,
 * /var/run/wireguard/NAME.sock): wireguard-go, built from its Go module, and boringtun, built by cargo.
 */
import { execFile } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SallyportError } from '../../src/base/error.js';
import { Seconds } from '../../src/base/time.js';
import { type LabProcess, pollUntil } from '../../test/lab/process.js';
import { cacheFolder } from '../machine.js';
import type { RunningSubject, Subject, SubjectContext } from '../subject.js';
import { goPrograms } from './go-module.js';
import { configureDevice, type End, startBoth } from './point-to-point.js';

const PORT = 51820;
/** The newest published version; the crate's index has no command that tells it. */
const BORINGTUN_VERSION = '0.7.1';

interface Keys {
  /** Hexadecimal, as UAPI wants them. */
  readonly secret: string;
  readonly public: string;
}

abstract class Wireguard implements Subject {
  abstract readonly name: string;
  protected abstract readonly short: string;

  abstract prepare(): Promise<string>;
  /** argv of the program, in the foreground. */
  protected abstract argv(device: string): readonly string[];

  async start(context: SubjectContext): Promise<RunningSubject> {
    const keys = { user: makeKeys(), service: makeKeys() };
    return startBoth(context, this.short, async (end) => {
      const other = end.role === 'user' ? 'service' : 'user';
      const started = end.host.spawn(this.argv(end.device), { env: { LOG_LEVEL: 'error', WG_LOG_LEVEL: 'error' } });
      await this.configure(end, started, [
        `private_key=${keys[end.role].secret}`,
        `listen_port=${PORT}`,
        `public_key=${keys[other].public}`,
        ...(end.role === 'user' ? [`endpoint=${end.otherOuter}:${PORT}`] : []),
        `allowed_ip=${end.otherInner}/32`,
      ]);
      configureDevice(end, context.mtu);
      return started;
    });
  }

  private async configure(end: End, started: LabProcess, lines: readonly string[]): Promise<void> {
    const path = `/var/run/wireguard/${end.device}.sock`;
    const socket = await reachable(path, started);
    let answer = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      answer += text;
      if (answer.endsWith('\n\n')) socket.end();
    });
    socket.write(`set=1\n${lines.join('\n')}\n\n`);
    await once(socket, 'close');
    if (answer.includes('errno=0\n')) return;
    const message = `${this.name} refused its configuration: ${answer}`;
    throw new SallyportError('environment', 'BENCH_SUBJECT_FAILED', message);
  }
}

export class WireguardGo extends Wireguard {
  readonly name = 'wireguard-go';
  protected readonly short = 'wg';
  private binary = '';

  async prepare(): Promise<string> {
    const { folder, version } = await goPrograms('golang.zx2c4.com/wireguard', ['']);
    this.binary = join(folder, 'wireguard');
    return version;
  }

  protected argv(device: string): readonly string[] {
    return [this.binary, '-f', device];
  }
}

export class Boringtun extends Wireguard {
  readonly name = 'boringtun';
  protected readonly short = 'bt';
  private readonly folder = join(cacheFolder(), `boringtun-${BORINGTUN_VERSION}`);
  private readonly binary = join(this.folder, 'bin', 'boringtun-cli');

  async prepare(): Promise<string> {
    const run = promisify(execFile);
    try {
      if (!existsSync(this.binary)) {
        const what = ['boringtun-cli', '--version', BORINGTUN_VERSION, '--locked'];
        await run('cargo', ['install', ...what, '--root', this.folder], { cwd: cacheFolder() });
      }
      const { stdout } = await run('cargo', ['--version']);
      return `${BORINGTUN_VERSION}, ${stdout.trim().split(' ').slice(0, 2).join(' ')}`;
    } catch (cause) {
      const message = `boringtun cannot be built here: ${(cause as Error).message.split('\n')[0]}`;
      throw new SallyportError('environment', 'BENCH_SUBJECT_UNAVAILABLE', message, { cause });
    }
  }

  protected argv(device: string): readonly string[] {
    return [this.binary, '-f', '--disable-drop-privileges', device];
  }
}

/** The program makes the socket's file a moment before it listens. */
async function reachable(path: string, started: LabProcess): Promise<Socket> {
  let socket: Socket | undefined;
  await pollUntil(
    `the control socket ${path}`,
    async () => {
      const attempt = connect(path);
      try {
        await once(attempt, 'connect');
        socket = attempt;
      } catch (error) {
        if (!started.running) throw error;
      }
      return socket !== undefined;
    },
    Seconds(10),
  );
  return socket!;
}

function makeKeys(): Keys {
  const { privateKey } = generateKeyPairSync('x25519');
  const jwk = privateKey.export({ format: 'jwk' });
  const hex = (text = ''): string => Buffer.from(text, 'base64url').toString('hex');
  return { secret: hex(jwk.d), public: hex(jwk.x) };
}
