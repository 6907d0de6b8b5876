/** Two nodes near each other (on one host, in two containers of it, in one LAN) meet by their own addresses, at once, and the relay falls silent. */
import { expect, test } from 'vitest';
import { elapsed, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { NAT_KINDS, SimNat } from '../support/sim-nat.js';
import { bothUse, directScene, Pinger } from './direct-scene.js';

/** All its inside hosts are one: programs with ports of their own. */
class OneHost extends SimNat {
  override nextInside(): string {
    return '192.168.10.2';
  }
}

/** The same, with a public address. */
class PublicHost extends SimNat {
  override nextInside(): string {
    return '198.51.100.99';
  }
  override isInside(): boolean {
    return true;
  }
}

const NEAR = [
  ['programs of one host with a public address', new PublicHost(10), /^198\.51\.100\.99$/],
  ['programs of one host behind a NAT', new OneHost(10, NAT_KINDS.strict), /^192\.168\.10\.2$/],
  ['programs of one host behind a NAT that hairpins', new OneHost(10, { ...NAT_KINDS.open, hairpin: true }), /^192/],
  ['containers, or hosts of one LAN, behind a symmetric NAT', new SimNat(10, NAT_KINDS.strict), /^192\.168\.10\.[23]$/],
  ['hosts of one LAN behind a NAT that hairpins', new SimNat(10, { ...NAT_KINDS.open, hairpin: true }), /^192/],
] as const;

test.each(NEAR)('%s', async (_, nat, inside) => {
  const it = await directScene({ agent: { tun: true, nat }, connector: { nat } });
  for (const { host } of [it.agent, it.connector]) host.path.delay = Millis(0);
  it.world.relay.host.path.delay = Millis(20);
  const pinger = new Pinger(it);
  const since = it.world.now;
  pinger.send(100);
  expect(it.world.until(() => bothUse(it, 'direct'), Seconds(2))).toBe(true);
  // A few round trips of the relay make the session; those between the two cost nothing.
  expect(toMillis(elapsed(since, it.world.now))).toBeLessThan(500);
  const { link, relayed } = it.agent.session('c1')!;
  expect(link!.connection.remote.ip.toString()).toMatch(inside);
  it.world.run(Seconds(1));
  const { packetsIn, packetsOut } = relayed!;
  expect(packetsOut).toBeLessThanOrEqual(2);
  pinger.run(Seconds(2));
  it.world.run(Seconds(1));
  expect(pinger.lost()).toEqual([]);
  expect([relayed!.packetsIn, relayed!.packetsOut]).toEqual([packetsIn, packetsOut]);
});
