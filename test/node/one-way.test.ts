/** Traffic in one direction only over a direct link that dies, both ways or one way: the session goes over to the relay in time, whichever end sends. */
import { describe, expect, test } from 'vitest';
import { elapsed, type Instant, later, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { overlay } from '../agent/fixtures.js';
import { connected, type Scene } from '../connector/fixtures.js';
import { pattern } from '../support/app.js';
import { readPacket, udpPacket } from '../support/packets.js';
import type { SimUdpFlow } from '../support/sim-sockets.js';
import { bothUse, directScene, isBetween } from './direct-scene.js';

/** What protocol.md promises of a link that is cut dead. */
const GAP_MS = 500;
const TICK = Millis(2);

const CUTS = [
  ['both ways', ['up', 'down']],
  ['to the connector', ['up']],
  ['to the agent', ['down']],
] as const satisfies readonly (readonly [string, readonly ('up' | 'down')[]])[];

/** Cuts, lets `step` make traffic for 3 s, and gives the longest time in ms in which `progress` stood still. */
function longestGap(it: Scene, cut: readonly string[], progress: () => number, step: () => void): number {
  it.world.network.filter = (packet) => !cut.includes(isBetween(it, packet) ?? '');
  let longest = 0;
  let last: Instant = it.world.now;
  for (const end = later(it.world.now, Seconds(3)); it.world.now < end; ) {
    const before = progress();
    step();
    it.world.run(TICK);
    if (progress() > before) last = it.world.now;
    longest = Math.max(longest, toMillis(elapsed(last, it.world.now)));
  }
  return longest;
}

describe.each(CUTS)('a direct link that is cut %s', (_, cut) => {
  test.each(['upload', 'download'] as const)('under a TCP %s', async (kind) => {
    const it = await directScene();
    const { app, stream } = connected(it);
    expect(it.world.until(() => bothUse(it, 'direct'), Seconds(5))).toBe(true);
    it.world.run(Seconds(1));
    const [from, to] = kind === 'upload' ? [app, stream] : [stream, app];
    const piece = pattern(3000);
    const gap = longestGap(
      it,
      cut,
      () => to.receivedBytes,
      () => {
        from.say(piece);
      },
    );
    expect(gap).toBeLessThan(GAP_MS);
    expect(bothUse(it, 'relay')).toBe(true);
  });

  test.each(['upload', 'download'] as const)('under UDP that is answered by nobody, as %s', async (kind) => {
    const it = await directScene({ agent: { tun: true } });
    const { agent, connector, world } = it;
    let flow: SimUdpFlow | undefined;
    let served = 0;
    let delivered = 0;
    connector.host.sockets.udpBackend('10.0.0.5:5353').onDatagram = (from) => {
      flow = from;
      served++;
    };
    agent.tun!.onPacket = (packet) => {
      if (readPacket(packet.subarray(10)).protocol === 17) delivered++;
    };
    const send = (): void => {
      agent.tun!.send(udpPacket({ from: overlay(agent), to: '10.100.0.2' }, 4000, 53, new Uint8Array(200)));
      agent.host.reactor.wake();
    };
    send();
    expect(world.until(() => bothUse(it, 'direct') && flow !== undefined, Seconds(5))).toBe(true);
    const step = kind === 'upload' ? send : () => flow!.reply(new Uint8Array(200));
    for (let i = 0; i < 500; i++) {
      step();
      world.run(TICK);
    }
    const gap = longestGap(it, cut, () => (kind === 'upload' ? served : delivered), step);
    expect(gap).toBeLessThan(GAP_MS);
    // The end whose packets are lost has left the link, though nobody answers them.
    const isSenderCut = cut.some((way) => way === (kind === 'upload' ? 'up' : 'down'));
    const sender = kind === 'upload' ? agent.session('c1')!.link : connector.sessions[0]!.link;
    if (isSenderCut) expect(sender!.isDirect).toBe(false);
  });
});
