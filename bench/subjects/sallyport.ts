/**
 * Sallyport: the relay in the middle, a connector in front of the service, an agent with a TUN device; packets through the relay, or by a
 * direct link while the relay stands by; flows end in the connector, or its host's kernel routes them.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../../src/base/error.js';
import { REPOSITORY } from '../../test/lab/services.js';
import { ADDRESSES } from '../../test/lab/topology.js';
import type { RunningSubject, Subject, SubjectContext } from '../subject.js';
import { DEVICE, PROGRAM, SallyportNetwork, VIRTUAL_IP } from './sallyport-network.js';

/** For packets to come by a direct link. */
const DIRECT_LIMIT = '30s';

export class Sallyport implements Subject {
  readonly name: string;
  readonly #isDirect: boolean;
  readonly #mode: 'engine' | 'kernel';

  /** @param way through the relay, by a direct link, or by a direct link to a connector in mode kernel */
  constructor(way: 'relay' | 'direct' | 'kernel' = 'relay') {
    this.#isDirect = way !== 'relay';
    this.#mode = way === 'kernel' ? 'kernel' : 'engine';
    this.name = way === 'relay' ? 'sallyport' : `sallyport-${way}`;
  }

  async prepare(): Promise<string> {
    if (!existsSync(PROGRAM)) {
      throw new SallyportError('environment', 'BENCH_SUBJECT_UNAVAILABLE', 'Sallyport is not built', {
        hint: 'npm run build',
      });
    }
    const manifest = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { version: string };
    const way = this.#isDirect ? 'by a direct link' : 'over the relay';
    return `${manifest.version}, ${way}${this.#mode === 'kernel' ? ', connector in mode kernel' : ''}`;
  }

  async start(context: SubjectContext): Promise<RunningSubject> {
    const { relay, service, user } = context.topology;
    const places = {
      user,
      relay,
      service,
      relayAddress: ADDRESSES.relay.v4,
      serviceAddress: ADDRESSES.service.v4,
    };
    const path = this.#isDirect ? 'auto' : 'relay';
    const network = await SallyportNetwork.start(places, context.folder, [], path, this.#mode);
    if (this.#isDirect) {
      await user.exec(['sh', '-c', `until ping -q -c 1 -W 1 ${VIRTUAL_IP} >/dev/null; do :; done`]);
      const wait = ['wait', '--path', 'direct', '--timeout', DIRECT_LIMIT, '--dir', network.stateFolder('agent')];
      await user.exec([process.execPath, PROGRAM, ...wait]);
    }
    return {
      target: VIRTUAL_IP,
      device: { host: user, name: DEVICE },
      processes: { ...network.processes },
      stop: () => network.stop(),
    };
  }
}
