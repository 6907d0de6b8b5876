/** Direct links: made beside the relay's, left when they die, made again. */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { connected, type Scene, scene } from '../connector/fixtures.js';

const AUTO = { direct: { path: 'auto' } } as const;

const direct = (options: Parameters<typeof scene>[0] = {}): Promise<Scene> =>
  scene({ ...options, agent: { ...AUTO, ...options.agent }, connector: { ...AUTO, ...options.connector } });

const isDirect = ({ agent, connector }: Scene): boolean =>
  agent.session('c1')?.link?.isDirect === true && connector.sessions[0]?.link?.isDirect === true;

test('two nodes that reach each other get a direct link, and the relay’s channel falls silent', async () => {
  const it = await direct();
  const { app, stream } = connected(it);
  expect(it.world.until(() => isDirect(it), Seconds(2))).toBe(true);
  it.world.run(Seconds(3));
  const session = it.agent.session('c1')!;
  const { packetsIn, packetsOut } = session.relayed!;
  app.say(new Uint8Array(200_000));
  expect(it.world.until(() => stream.receivedBytes === 200_000, Seconds(5))).toBe(true);
  expect([session.relayed!.packetsIn, session.relayed!.packetsOut]).toEqual([packetsIn, packetsOut]);
  expect(session.link!.packetsOut).toBeGreaterThan(100);
});
