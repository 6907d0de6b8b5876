/** Sallyport over its relay: the relay in the middle, a connector in front of the service, an agent with a TUN device. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../../src/base/error.js';
import { REPOSITORY } from '../../test/lab/services.js';
import { ADDRESSES } from '../../test/lab/topology.js';
import type { RunningSubject, Subject, SubjectContext } from '../subject.js';
import { DEVICE, PROGRAM, SallyportNetwork, VIRTUAL_IP } from './sallyport-network.js';

export class Sallyport implements Subject {
  readonly name = 'sallyport';

  async prepare(): Promise<string> {
    if (!existsSync(PROGRAM)) {
      throw new SallyportError('environment', 'BENCH_SUBJECT_UNAVAILABLE', 'Sallyport is not built', {
        hint: 'npm run build',
      });
    }
    const manifest = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { version: string };
    return `${manifest.version}, over the relay`;
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
    const network = await SallyportNetwork.start(places, context.folder);
    return {
      target: VIRTUAL_IP,
      device: { host: user, name: DEVICE },
      processes: { ...network.processes },
      stop: () => network.stop(),
    };
  }
}
