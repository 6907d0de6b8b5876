/** A host's only uplink changes its character while a session is direct: a local network, a satellite, a local network again. */
import { expect, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { connected, type Scene } from '../connector/fixtures.js';
import { pattern } from '../support/app.js';
import { bothUse, directScene, pinging } from './direct-scene.js';

/** One way. */
const LAN = Millis(1);
const SATELLITE = Millis(300);
/** What our own queues may add, ms. */
const OWN = 20;

const switches = ({ agent, connector }: Scene): number =>
  agent.core.linkCounters.get('switches') + connector.core.linkCounters.get('switches');

test('pings go on without a loss, and take the way’s own time after each change', async () => {
  const it = await pinging();
  const { path } = it.agent.host;
  const { pinger } = it;
  const before = switches(it);
  const { id } = it.agent.session('c1')!;
  for (const delay of [LAN, SATELLITE, LAN, SATELLITE, LAN]) {
    path.delay = delay;
    pinger.run(Seconds(10));
    const from = pinger.sent.length;
    pinger.run(Seconds(5));
    it.world.run(Seconds(1));
    const added = pinger.sent.slice(from).map((at, i) => pinger.answered.get(from + i)! - at - (2 * delay) / 1000);
    expect(Math.max(...added)).toBeLessThan(OWN);
    expect(bothUse(it, 'direct')).toBe(true);
  }
  expect(pinger.lost()).toEqual([]);
  expect(pinger.duplicates).toBe(0);
  expect(it.agent.session('c1')!.id).toBe(id);
  // A sudden 600 ms look like an outage for as long as they take; there is nothing to gain by going to and fro.
  expect(switches(it) - before).toBeLessThanOrEqual(8);
});

test('transfers both ways in which the change comes are whole', async () => {
  const it = await directScene();
  const { app, stream } = connected(it);
  const { path } = it.agent.host;
  expect(it.world.until(() => bothUse(it, 'direct'), Seconds(5))).toBe(true);
  let sent = 0;
  for (const [before, after] of [
    [LAN, SATELLITE],
    [SATELLITE, LAN],
    [LAN, SATELLITE],
  ] as const) {
    path.delay = before;
    it.world.run(Seconds(2));
    const part = pattern(4_000_000, sent + 1);
    const [up, down] = [stream.received.length, app.received.length];
    app.say(part);
    stream.say(part);
    sent += part.length;
    expect(it.world.until(() => app.receivedBytes > sent - 3_000_000, Seconds(10))).toBe(true);
    expect(app.receivedBytes).toBeLessThan(sent);
    path.delay = after;
    const isWhole = () => app.receivedBytes === sent && stream.receivedBytes === sent;
    expect(it.world.until(isWhole, Seconds(30))).toBe(true);
    expect(Buffer.compare(stream.received.subarray(up), part)).toBe(0);
    expect(Buffer.compare(app.received.subarray(down), part)).toBe(0);
  }
  it.world.run(Seconds(10));
  expect(bothUse(it, 'direct')).toBe(true);
});
