/** A network whose agent and connector have a direct link beside the relay's, and a program that sends numbered packets. */
import { expect } from 'vitest';
import { type Duration, later, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { overlay } from '../agent/fixtures.js';
import { type Scene, scene } from '../connector/fixtures.js';
import { readPacket, udpPacket } from '../support/packets.js';
import type { Packet } from '../support/sim-network.js';
import type { SimUdpFlow } from '../support/sim-sockets.js';

const AUTO = { direct: { path: 'auto' } } as const;
const DNS = '10.0.0.5:5353';
/** Numbers take this many bytes of a packet. */
const HEADER = 4;

export const directScene = (options: Parameters<typeof scene>[0] = {}, isReady = true): Promise<Scene> =>
  scene({ ...options, agent: { ...AUTO, ...options.agent }, connector: { ...AUTO, ...options.connector } }, isReady);

/** Whether both ends send on this kind of link. */
export function bothUse({ agent, connector }: Scene, via: 'direct' | 'relay'): boolean {
  const links = [agent.session('c1')?.link, connector.sessions[0]?.link];
  return links.every((link) => link !== undefined && link.isDirect === (via === 'direct'));
}

/** The agent's manager of its session's links. */
export const manager = ({ agent }: Scene) => agent.session('c1')!.set.manager;

/** Whether a datagram goes between agent and connector without the relay. */
export function isBetween({ agent, connector }: Scene, { from, to }: Packet): 'up' | 'down' | undefined {
  const is = (node: Scene['agent'] | Scene['connector'], address: Packet['from']): boolean =>
    node.udp.some(({ external }) => external.ip.equals(address.ip));
  if (is(agent, from) && is(connector, to)) return 'up';
  return is(connector, from) && is(agent, to) ? 'down' : undefined;
}

/** A program behind the agent's TUN device that sends numbered packets and has them echoed. */
export class Pinger {
  /** When each number was sent, was seen by the service, and came back, in ms. */
  readonly sent: number[] = [];
  readonly served = new Map<number, number>();
  readonly answered = new Map<number, number>();
  /** Numbers that came twice at either place. */
  duplicates = 0;
  readonly #it: Scene;

  constructor(it: Scene) {
    this.#it = it;
    const backend = it.connector.host.sockets.udpBackend(DNS);
    backend.onDatagram = (flow: SimUdpFlow, bytes: Uint8Array) => {
      this.#note(this.served, bytes);
      flow.reply(bytes);
    };
    it.agent.tun!.onPacket = (packet) => {
      const { protocol, data } = readPacket(packet.subarray(10));
      if (protocol === 17) this.#note(this.answered, data);
    };
  }

  #now(): number {
    return toMillis(this.#it.world.now as unknown as Duration);
  }

  #note(into: Map<number, number>, bytes: Uint8Array): void {
    const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
    if (into.has(number)) this.duplicates++;
    into.set(number, this.#now());
  }

  send(size: number): void {
    const { agent } = this.#it;
    const payload = new Uint8Array(size - 28);
    new DataView(payload.buffer).setUint32(0, this.sent.push(this.#now()) - 1);
    agent.tun!.send(udpPacket({ from: overlay(agent), to: '10.100.0.2' }, 4000, 53, payload));
    agent.host.reactor.wake();
  }

  /** Sends one packet of `size` bytes every `gap` for `span`. */
  run(span: Duration, gap: Duration = Millis(10), size = 28 + HEADER): void {
    const { world } = this.#it;
    const end = later(world.now, span);
    while (world.now < end) {
      this.send(size);
      world.run(gap);
    }
  }

  /** Numbers from `from` on that did not come back. */
  lost(from = 0): number[] {
    return this.sent.map((_, i) => i).filter((i) => i >= from && !this.answered.has(i));
  }

  /** The longest time without an answer from the instant `from` (ms) on. */
  longestGap(from: number): number {
    const times = [...this.answered.values()].filter((at) => at >= from).sort((a, b) => a - b);
    return Math.max(...times.map((at, i) => at - (times[i - 1] ?? from)));
  }
}

/** A scene whose pinger goes over the direct link; not `isDirect`: over the relay's, as it is told by `options`. */
export async function pinging(
  options: Parameters<typeof scene>[0] = {},
  isDirect = true,
): Promise<Scene & { readonly pinger: Pinger }> {
  const it = await directScene({ ...options, agent: { tun: true, ...options.agent } });
  const pinger = new Pinger(it);
  pinger.run(Seconds(1));
  expect(it.world.until(() => bothUse(it, isDirect ? 'direct' : 'relay'), Seconds(5))).toBe(true);
  pinger.run(Seconds(1));
  return { ...it, pinger };
}
