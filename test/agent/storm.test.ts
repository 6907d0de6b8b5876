/**
 * Everything at once, by seed: loss, blackouts, new addresses, relay restarts and lost links, while transfers run both ways. What was
 * open goes on, and not one byte is lost, doubled or moved to another flow.
 */
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { connected, scene } from '../connector/fixtures.js';
import { pattern } from '../support/app.js';

const BYTES = 3_000_000;
const EVENTS = 12;

test.each([1, 2, 3, 4])('storm %i', async (seed) => {
  const first = await scene({ world: { seed } });
  const { world, connector } = first;
  const second = { ...first, agent: await world.agent('bob') };
  expect(world.until(() => second.agent.core.available.has('web'))).toBe(true);
  const random = new SeededEntropy(seed);
  const hosts = [first.agent.host, second.agent.host, connector.host];
  const nodes = [first.agent, second.agent, connector];
  const flows = [first, first, second].map((one, i) => ({
    ...connected(one),
    up: pattern(BYTES, seed * 10 + i),
    down: pattern(BYTES, seed * 100 + i),
  }));
  for (const { app, stream, up, down } of flows) {
    app.say(up);
    stream.say(down);
  }
  for (let event = 0; event < EVENTS; event++) {
    const pick = random.uint32() % 3;
    const { path } = hosts[pick]!;
    switch (random.uint32() % 5) {
      case 0:
        path.loss = 0.05;
        world.run(Millis(500));
        path.loss = 0;
        break;
      case 1:
        path.isDown = true;
        world.run(Millis(random.uint32() % 8000));
        path.isDown = false;
        break;
      case 2: {
        const [socket] = nodes[pick]!.udp;
        socket!.rebind(new SocketAddress(socket!.external.ip, 50_000 + event));
        break;
      }
      case 3:
        world.relay.host.kill();
        world.run(Millis(random.uint32() % 2000));
        await world.startRelay();
        break;
      case 4:
        for (const session of first.agent.sessions) session.link?.connection.close(world.now, 0, 'storm');
        first.agent.host.reactor.wake();
        break;
    }
    world.run(Millis(100 + (random.uint32() % 900)));
  }
  const isDone = (): boolean =>
    flows.every(({ app, stream }) => app.receivedBytes >= BYTES && stream.receivedBytes >= BYTES);
  expect(world.until(isDone, Seconds(180))).toBe(true);
  for (const { app, stream, up, down } of flows) {
    expect(Buffer.compare(stream.received, up)).toBe(0);
    expect(Buffer.compare(app.received, down)).toBe(0);
  }
  expect(connector.eventsOf('session-opened').length).toBe(2);
});
