/** A network whose agent and connector may go directly, with a web server behind it, for the tests of one file. */
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { startHttp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { Network } from './network.js';

/** The network of the running tests, and where programs of the user's find the web server. */
export let network: Network;
export let url: string;

/** To be called inside `describe`. */
export function directWeb(): void {
  beforeAll(async () => {
    network = await Network.make({ path: 'auto', services: { web: `tcp://${ADDRESSES.backend.v4}:8080` } });
    await startHttp(network.topology.backend);
    url = `http://${(await network.virtual('web')).v4}:8080`;
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));
}
