/** The NATs of the laboratory: what plain UDP sockets on both sides see of their mapping and filtering. */
import { afterEach, describe, expect, it } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { type Host, run } from './host.js';
import { Lab } from './lab.js';
import type { LabProcess } from './process.js';
import { program } from './services.js';
import { ADDRESSES, type HomeRouter, type StandardTopology, standardTopology } from './topology.js';

const unavailable = Lab.unavailable();
type Family = 'v4' | 'v6';

/** What has not come by then was dropped. */
const NOT_COMING = Millis(200);
/** What is let through is there at once, but for a machine with other work. */
const COMING = Seconds(15);

/** A plain UDP socket in a host. */
class Peer {
  readonly #process: LabProcess;
  readonly address: string;

  private constructor(started: LabProcess, address: string) {
    this.#process = started;
    this.address = address;
  }

  static async open(host: Host, address: string, port = 0): Promise<Peer> {
    const started = host.spawn(program('udp-peer', join(address, port)), { interactive: true });
    const line = await started.waitForLine(/^listening (.+)$/);
    return new Peer(started, line[1]!);
  }

  /** Resolves when it has left. */
  async send(to: string, text: string): Promise<void> {
    this.#process.write(`${JSON.stringify({ to, text })}\n`);
    await this.#process.waitFor(`${text} to be sent`, {}, () => this.#told().find(({ sent }) => sent === text));
  }

  /** Where the datagram with this text came from; undefined when it has not come in time. */
  async from(text: string, timeout = COMING): Promise<string | undefined> {
    const found = (): string | undefined => this.#told().find((one) => one.text === text)?.from;
    return this.#process.waitFor(text, { timeout }, found).catch(() => undefined);
  }

  #told(): { readonly from?: string; readonly text?: string; readonly sent?: string }[] {
    const lines = this.#process.stdout.split('\n').slice(0, -1);
    return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
  }
}

const join = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));

const labs: Lab[] = [];
const build = (user: HomeRouter | 'open'): StandardTopology => {
  const lab = new Lab();
  labs.push(lab);
  return standardTopology(lab, { user, serviceClosed: false });
};

/** What is behind a router that two sockets of one outside host and one of another look at. */
class Sight {
  readonly #peers: Record<'inner' | 'first' | 'otherPort' | 'otherHost', Peer>;
  #serial = 0;

  private constructor(peers: Record<'inner' | 'first' | 'otherPort' | 'otherHost', Peer>) {
    this.#peers = peers;
  }

  static async open(topology: StandardTopology, inside: string, family: Family): Promise<Sight> {
    const { relay, service, user } = topology;
    const [inner, first, otherPort, otherHost] = await Promise.all([
      Peer.open(user, inside, 40_000),
      Peer.open(relay, ADDRESSES.relay[family], 5000),
      Peer.open(relay, ADDRESSES.relay[family], 5001),
      Peer.open(service, ADDRESSES.service[family], 5000),
    ]);
    return new Sight({ inner, first, otherPort, otherHost });
  }

  /** Where the datagram with this text came from, once it is inside; undefined when it is not soon. */
  hears(text: string, patience = NOT_COMING): Promise<string | undefined> {
    return this.#peers.inner.from(text, patience);
  }

  /** The public address that one of the outside sockets sees. */
  async mapping(at: 'first' | 'otherPort' | 'otherHost', patience = COMING): Promise<string> {
    const text = `out ${++this.#serial}`;
    await this.#peers.inner.send(this.#peers[at].address, text);
    const seen = await this.#peers[at].from(text, patience);
    if (seen === undefined) throw new Error(`${at} has not heard anything`);
    return seen;
  }

  /** Who gets through to `mapped`, each asked before whoever was asked last has settled. */
  async reachedBy(mapped: string, ...who: ('first' | 'otherPort' | 'otherHost')[]): Promise<string[]> {
    const texts = who.map((one) => `in ${one} ${++this.#serial}`);
    await Promise.all(who.map((one, index) => this.#peers[one].send(mapped, texts[index]!)));
    // Last, and surely let in: when it is there, the others were there before or never will be.
    const last = `in last ${++this.#serial}`;
    await this.#peers.first.send(mapped, last);
    expect(await this.#peers.inner.from(last)).toBeDefined();
    const came = await Promise.all(texts.map((text) => this.#peers.inner.from(text, NOT_COMING)));
    return who.filter((_, index) => came[index] !== undefined);
  }
}

afterEach(async () => {
  for (const lab of labs.splice(0)) await lab.destroy();
});

/** UDP mappings that the home router has now. */
const flows = ({ nats }: StandardTopology): number =>
  run(['ip', 'netns', 'exec', nats.user[0]!.router.namespace, 'conntrack', '-L', '-p', 'udp'])
    .split('\n')
    .filter((line) => line.includes('dport=5000')).length;

const outsiders = ['otherPort', 'otherHost'] as const;

describe.skipIf(unavailable !== undefined).each(['v4', 'v6'] as const)('a NAT of the laboratory over %s', (family) => {
  const inside = ADDRESSES.userInside[family];
  const outside = ADDRESSES.user[family];

  it.each([
    ['open', { kind: 'open' }, outsiders],
    ['address-restricted', { kind: 'moderate', filtering: 'address' }, ['otherPort']],
    ['port-restricted', { kind: 'moderate' }, []],
  ] as const)('that is %s maps by itself and lets in whom it should', async (_name, settings, expected) => {
    const sight = await Sight.open(build(settings), inside, family);
    const mapped = await sight.mapping('first');
    expect(mapped).toBe(join(outside, 40_000));
    expect(await sight.reachedBy(mapped, ...outsiders)).toEqual(expected);
    // What was dropped has left nothing behind that would move the mapping.
    expect(await sight.mapping('otherPort')).toBe(mapped);
    expect(await sight.mapping('otherHost')).toBe(mapped);
    expect(await sight.reachedBy(mapped, ...outsiders)).toEqual(outsiders);
  });

  it('that is strict has another port for every destination, by chance', async () => {
    const sight = await Sight.open(build({ kind: 'strict' }), inside, family);
    const mapped = [await sight.mapping('first'), await sight.mapping('otherPort'), await sight.mapping('otherHost')];
    expect(new Set(mapped).size).toBe(3);
    for (const one of mapped) expect(one.startsWith(join(outside, 0).slice(0, -1))).toBe(true);
    expect(mapped.map(portOf)).not.toContain(40_000);
    expect(await sight.reachedBy(mapped[0]!, ...outsiders)).toEqual([]);
  });

  it('before which a carrier has its own lets through what both let through', async () => {
    const sight = await Sight.open(build({ kind: 'open', carrier: { kind: 'moderate' } }), inside, family);
    const mapped = await sight.mapping('first');
    expect(mapped).toBe(join(outside, 40_000));
    expect(await sight.reachedBy(mapped, ...outsiders)).toEqual([]);
    const strict = await Sight.open(build({ kind: 'open', carrier: { kind: 'strict' } }), inside, family);
    expect(await strict.mapping('first')).not.toBe(await strict.mapping('otherHost'));
  });

  it.each([true, false])('with hairpin %s', async (hairpin) => {
    const topology = build({ kind: 'open', hairpin });
    const sight = await Sight.open(topology, inside, family);
    const mapped = await sight.mapping('first');
    const other = await Peer.open(topology.user, inside, 41_000);
    await other.send(mapped, 'turn');
    const inner = await Peer.open(topology.user, inside, 42_000);
    await other.send(inner.address, 'straight');
    expect(await inner.from('straight')).toBe(other.address);
    const heard = await sight.hears('turn', hairpin ? COMING : NOT_COMING);
    expect(heard).toBe(hairpin ? join(outside, 41_000) : undefined);
  });

  it('without UDP lets none through, and TCP as ever', async () => {
    const topology = build({ kind: 'moderate', udp: false });
    const sight = await Sight.open(topology, inside, family);
    await expect(sight.mapping('first', NOT_COMING)).rejects.toThrow('not heard');
    const ping = await topology.user.exec(['ping', '-c', '1', '-W', '2', ADDRESSES.relay[family]]);
    expect(ping.code).toBe(0);
  });

  it('forgets a mapping that rests longer than its lifetime, and all when it restarts', async () => {
    const topology = build({ kind: 'strict', lifetime: Seconds(2) });
    const sight = await Sight.open(topology, inside, family);
    const mapped = await sight.mapping('first');
    expect(await sight.mapping('first')).toBe(mapped);
    await expect.poll(() => flows(topology), { timeout: 20_000 }).toBe(0);
    const again = await sight.mapping('first');
    expect(again).not.toBe(mapped);
    topology.nats.user[0]!.restart();
    expect(await sight.mapping('first')).not.toBe(again);
  });
});

describe.skipIf(unavailable !== undefined)('IPv6 behind a firewall', () => {
  it('keeps its address, and lets in only what was asked for', async () => {
    const topology = build({ kind: 'strict', ipv6: 'firewall' });
    const { v6 } = ADDRESSES.userGlobal;
    const sight = await Sight.open(topology, v6, 'v6');
    const mapped = await sight.mapping('first');
    expect(mapped).toBe(join(v6, 40_000));
    expect(await sight.reachedBy(mapped, ...outsiders)).toEqual([]);
    expect(await sight.mapping('otherHost')).toBe(mapped);
    expect(await sight.reachedBy(mapped, ...outsiders)).toEqual(['otherHost']);
  });
});
