/** An agent with more sessions than a relay takes requests at once: it asks for their channels one after the other. */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { ready, SERVICES } from '../connector/fixtures.js';
import { App } from '../support/app.js';
import { policyDocument } from '../support/identities.js';
import { World } from '../support/world.js';

const SERVICES_OF_OTHERS = 150;

test('a relay is not flooded with requests for channels', async () => {
  const { services } = policyDocument();
  const [web] = services;
  const ids = Array.from({ length: SERVICES_OF_OTHERS }, (_, i) => `s${i}`);
  const world = await World.create({
    policy: {
      services: [
        ...services,
        ...ids.map((id, i) => ({
          ...web!,
          id,
          virtualIp4: `10.100.1.${i}`,
          virtualIp6: `fd00:1:2::1:${i}`,
          connectors: [`other${i}`],
        })),
      ],
      grants: [{ from: ['group:staff'], to: ['web', ...ids] }],
    },
  });
  const connector = await world.connector('c1', { services: SERVICES });
  const agent = await world.agent('alice');
  expect(world.until(() => ready(connector) && agent.core.available.has('web'))).toBe(true);
  for (const [i] of ids.entries()) new App(agent, `10.100.1.${i}:80`);
  world.run(Seconds(25));
  expect(agent.eventsOf('relay-lost')).toEqual([]);
  expect(agent.sessions.length).toBe(SERVICES_OF_OTHERS);
  expect(agent.sessions.filter((session) => !session.lastProblem.includes('NO_CONNECTOR'))).toEqual([]);
});
