/**
 * A sample of the acceptance suites (docs/acceptance.md; `npm run soak -- --acceptance SUITE` runs all of one): an agent that changes to an
 * uplink of the other family in mid-download, and hosts with 32 addresses of which none leads anywhere.
 */
import { afterEach, describe, it } from 'vitest';
import { ADDRESS_CASES } from '../../bench/acceptance/addresses.js';
import type { Case } from '../../bench/acceptance/suite.js';
import { UPLINK_CASES } from '../../bench/acceptance/uplink.js';
import { Lab } from '../lab/lab.js';
import type { Network } from './network.js';

describe.skipIf(Lab.unavailable() !== undefined)('acceptance', () => {
  const networks: Network[] = [];
  afterEach(async () => {
    for (const network of networks.splice(0)) await network.destroy();
  });

  const sample: readonly (readonly [readonly Case[], string])[] = [
    [UPLINK_CASES, 'agent v4 → v6'],
    [ADDRESS_CASES, '32 addresses of both families'],
  ];
  it.each(sample.map(([cases, name]) => [name, cases.find((one) => one.name === name)!] as const))(
    '%s',
    async (name, { run }) => {
      const hold = (network: Network): Network => {
        networks.push(network);
        return network;
      };
      console.info(`${name}: ${await run(hold)}`);
    },
  );
});
