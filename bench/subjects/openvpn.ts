/**
 * OpenVPN from the distribution: TLS between two self-signed certificates known by their fingerprints, AES-128-GCM on the data
 * channel, UDP, TUN. Once with its own packet path and once with the kernel's data channel offload (DCO), where the kernel has it.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SallyportError } from '../../src/base/error.js';
import type { RunningSubject, Subject, SubjectContext } from '../subject.js';
import { startBoth } from './point-to-point.js';

const PORT = 1194;
/** Link types of the offload: in the kernel from Linux 6.16 on, and of the module that came before. */
const OFFLOAD_DEVICES = ['ovpn', 'ovpn-dco'];

const run = promisify(execFile);

export class Openvpn implements Subject {
  readonly name: string;
  private readonly offload: boolean;

  constructor(offload: boolean) {
    this.offload = offload;
    this.name = offload ? 'openvpn-dco' : 'openvpn';
  }

  async prepare(): Promise<string> {
    const text = await run('openvpn', ['--version']).catch((cause: { stdout?: string; message: string }) => {
      // It prints its version with exit code 1 in some releases.
      if (cause.stdout?.startsWith('OpenVPN') === true) return { stdout: cause.stdout };
      throw unavailable(`openvpn is not installed: ${cause.message.split('\n')[0]}`);
    });
    const version = /^OpenVPN (\S+)/.exec(text.stdout)?.[1] ?? 'unknown';
    if (!this.offload) return `${version}, AES-128-GCM`;
    for (const type of OFFLOAD_DEVICES) {
      // `ip` knows a type that the kernel does not have only by trying.
      const made = await run('ip', ['link', 'add', 'sallyport-dco', 'type', type]).then(
        () => true,
        () => false,
      );
      if (!made) continue;
      await run('ip', ['link', 'delete', 'sallyport-dco']);
      return `${version}, AES-128-GCM, kernel data channel (${type})`;
    }
    throw unavailable('this kernel has no OpenVPN data channel offload');
  }

  async start(context: SubjectContext): Promise<RunningSubject> {
    const fingerprints = {
      user: await makeCertificate(context.folder, 'user'),
      service: await makeCertificate(context.folder, 'service'),
    };
    return startBoth(context, 'ov', async (end) => {
      const other = end.role === 'user' ? 'service' : 'user';
      const tls = end.role === 'user' ? ['--tls-client', '--remote', end.otherOuter] : ['--tls-server', '--dh', 'none'];
      return end.host.spawn([
        'openvpn',
        ...['--dev', end.device, '--dev-type', 'tun', '--proto', 'udp', '--port', String(PORT)],
        ...['--ifconfig', end.inner, end.otherInner, '--tun-mtu', String(context.mtu)],
        ...['--cert', join(context.folder, `${end.role}.crt`), '--key', join(context.folder, `${end.role}.key`)],
        ...['--peer-fingerprint', fingerprints[other], '--data-ciphers', 'AES-128-GCM', '--verb', '1'],
        ...(this.offload ? [] : ['--disable-dco']),
        ...tls,
      ]);
    });
  }
}

/** Makes `name`.crt and `name`.key; returns the certificate's SHA-256 fingerprint. */
async function makeCertificate(folder: string, name: string): Promise<string> {
  const certificate = join(folder, `${name}.crt`);
  const files = ['-keyout', join(folder, `${name}.key`), '-out', certificate];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await run('openssl', ['req', '-x509', ...key, '-subj', `/CN=${name}`, '-days', '2', ...files]);
  const { stdout } = await run('openssl', ['x509', '-in', certificate, '-noout', '-fingerprint', '-sha256']);
  return stdout.trim().split('=')[1]!;
}

function unavailable(message: string): SallyportError {
  return new SallyportError('environment', 'BENCH_SUBJECT_UNAVAILABLE', message);
}
