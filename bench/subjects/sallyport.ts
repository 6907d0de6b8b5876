/**
 * Sallyport: the relay in the middle, a connector in front of the service, an agent with a TUN device; packets through the relay, or by a
 * direct link while the relay stands by.
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

  constructor(isDirect = false) {
    this.#isDirect = isDirect;
    this.name = isDirect ? 'sallyport-direct' : 'sallyport';
  }

  async prepare(): Promise<string> {
    if (!existsSync(PROGRAM)) {
      throw new SallyportError('environment', 'BENCH_SUBJECT_UNAVAILABLE', 'Sallyport is not built', {
        hint: 'npm run build',
      });
    }
    const manifest = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { version: string };
    return `${manifest.version}, ${this.#isDirect ? 'by a direct link' : 'over the relay'}`;
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
    const network = await SallyportNetwork.start(places, context.folder, [], this.#isDirect ? 'auto' : 'relay');
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
