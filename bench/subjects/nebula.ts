/** Nebula, built from its Go module: two certified hosts, the service's is the lighthouse; AES-GCM, its default. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { RunningSubject, Subject, SubjectContext } from '../subject.js';
import { goPrograms } from './go-module.js';
import { type End, PREFIX_LENGTH, startBoth } from './point-to-point.js';

const PORT = 4242;

export class Nebula implements Subject {
  readonly name = 'nebula';
  private folder = '';

  async prepare(): Promise<string> {
    const { folder, version } = await goPrograms('github.com/slackhq/nebula', ['cmd/nebula', 'cmd/nebula-cert']);
    this.folder = folder;
    return version;
  }

  async start(context: SubjectContext): Promise<RunningSubject> {
    const cwd = context.folder;
    const certify = async (...argv: string[]): Promise<void> => {
      await promisify(execFile)(join(this.folder, 'nebula-cert'), argv, { cwd });
    };
    await certify('ca', '-name', 'bench');
    return startBoth(context, 'ne', async (end) => {
      await certify('sign', '-name', end.role, '-ip', `${end.inner}/${PREFIX_LENGTH}`);
      const file = join(cwd, `${end.role}.yml`);
      // JSON is YAML.
      writeFileSync(file, JSON.stringify(configuration(cwd, end, context.mtu)));
      return end.host.spawn([join(this.folder, 'nebula'), '-config', file]);
    });
  }
}

function configuration(folder: string, end: End, mtu: number): object {
  const anything = [{ port: 'any', proto: 'any', host: 'any' }];
  const isLighthouse = end.role === 'service';
  return {
    pki: {
      ca: join(folder, 'ca.crt'),
      cert: join(folder, `${end.role}.crt`),
      key: join(folder, `${end.role}.key`),
    },
    static_host_map: isLighthouse ? {} : { [end.otherInner]: [`${end.otherOuter}:${PORT}`] },
    lighthouse: { am_lighthouse: isLighthouse, hosts: isLighthouse ? [] : [end.otherInner] },
    listen: { host: '0.0.0.0', port: PORT },
    tun: { dev: end.device, mtu },
    firewall: { outbound: anything, inbound: anything },
    logging: { level: 'warning' },
  };
}
