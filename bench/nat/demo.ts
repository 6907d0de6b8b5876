/**
 * `npm run demo -- --nat`: two people behind a home router each, told step by step: the relay first, then the direct link through both
 * NATs, the direct path cut and restored. Everything runs in networks of this machine that are gone afterwards.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../../src/base/error.js';
import { type Duration, Seconds, toMillis } from '../../src/base/time.js';
import { type AgentThreadStatus, Network } from '../../test/e2e/network.js';
import { Lab } from '../../test/lab/lab.js';
import type { LabProcess } from '../../test/lab/process.js';
import { ADDRESSES, impairUplink } from '../../test/lab/topology.js';

/** One way, in milliseconds: the relay is in another country. */
const RELAY_DELAY = 15;
/** Between two pings, in milliseconds. */
const PING_GAP = 20;
/** How long each path is shown. */
const SHOWN: Duration = Seconds(2);
const PATIENCE: Duration = Seconds(30);

const say = (text = ''): void => void process.stdout.write(`${text}\n`);

interface Reply {
  readonly sequence: number;
  /** Round trip in milliseconds. */
  readonly rtt: number;
}

/** A ping that goes on while things happen. */
class Pings {
  readonly #process: LabProcess;

  constructor(network: Network, address: string) {
    this.#process = network.topology.user.spawn(['ping', '-n', '-i', String(PING_GAP / 1000), address]);
  }

  /** By sequence number: on the way from a slow path to a quick one answers overtake each other. */
  get replies(): Reply[] {
    return [...this.#process.stdout.matchAll(/icmp_seq=(\d+) .*time=([\d.]+) ms/g)]
      .map((match) => ({ sequence: Number(match[1]), rtt: Number(match[2]) }))
      .sort((a, b) => a.sequence - b.sequence);
  }

  /** Runs on for `span`; resolves with the median round trip of what was asked meanwhile, in milliseconds. */
  async during(span: Duration): Promise<number> {
    const from = this.replies.at(-1)?.sequence ?? 0;
    await delay(toMillis(span));
    const rtts = this.replies.filter(({ sequence }) => sequence > from).map(({ rtt }) => rtt);
    return rtts.sort((a, b) => a - b)[rtts.length >> 1] ?? Number.NaN;
  }

  /** The most pings in a row, after ping `from`, that got no answer. */
  longestGap(from: number): number {
    const after = this.replies.filter(({ sequence }) => sequence >= from);
    return Math.max(0, ...after.slice(1).map(({ sequence }, index) => sequence - after[index]!.sequence - 1));
  }

  get last(): number {
    return this.replies.at(-1)?.sequence ?? 0;
  }
}

/** Runs the demo; resolves with the exit status. */
export async function runNatDemo(): Promise<number> {
  const reason = Lab.unavailable('ping');
  if (reason !== undefined) {
    process.stderr.write(`demo: cannot make networks of its own here: ${reason}\n`);
    return 1;
  }
  Lab.cleanStale();
  let network: Network | undefined;
  try {
    say('1  two homes are built, each behind a router with a port-restricted NAT, and a relay 15 ms away from both');
    network = await Network.make({
      path: 'auto',
      topology: {
        user: { kind: 'moderate', ipv6: 'none' },
        service: { kind: 'moderate', ipv6: 'none' },
        serviceClosed: false,
      },
      services: { host: `icmp://${ADDRESSES.backend.v4}` },
    });
    await impairUplink(network.topology, 'relay', { profile: { delay: RELAY_DELAY } });
    await tell(network);
    return 0;
  } catch (error) {
    process.stderr.write(`demo: ${describeError(error)}\n`);
    for (const role of network?.roles ?? []) process.stderr.write(`${role.describe()}\n`);
    return 1;
  } finally {
    await network?.destroy();
  }
}

async function tell(network: Network): Promise<void> {
  say(`       agent ${ADDRESSES.userInside.v4} ── NAT ${ADDRESSES.user.v4} ───┐`);
  say(`                                              ├── relay ${ADDRESSES.relay.v4}`);
  say(`   connector ${ADDRESSES.serviceInside.v4} ── NAT ${ADDRESSES.service.v4} ─┘`);
  const { v4 } = await network.virtual('host');
  const pings = new Pings(network, v4);
  const start = performance.now();
  const first = await waitFor(async () => pings.replies[0], 'an answer');
  say();
  say(
    `2  first answer of the service after ${since(start)} ms, session set-up included: through the relay, ${first.rtt} ms`,
  );
  const link = await goesBy(network, 'direct');
  say(`3  both sides have punched; the direct link stands ${since(start)} ms after the first packet`);
  say(`       agent ═══════ ${link.remote} (the other NAT) ═══════ connector`);
  const direct = await pings.during(SHOWN);
  say(`       round trip ${direct} ms; the relay only stands by`);
  say();
  const cutAt = performance.now();
  const beforeCut = pings.last;
  cut(network, true);
  await goesBy(network, 'relay');
  say(`4  the direct path is cut: packets take the relay again ${since(cutAt)} ms later`);
  const relayed = await pings.during(SHOWN);
  const lost = pings.longestGap(beforeCut);
  say(`       round trip ${relayed} ms; ${lost} pings in a row got no answer, a gap of ${lost * PING_GAP} ms`);
  say();
  const mended = performance.now();
  const beforeReturn = pings.last;
  cut(network, false);
  await goesBy(network, 'direct');
  say(`5  the path is whole again: direct after ${since(mended)} ms`);
  const again = await pings.during(SHOWN);
  say(`       round trip ${again} ms; ${pings.longestGap(beforeReturn)} pings lost on the way back`);
}

function since(start: number): number {
  return Math.round(performance.now() - start);
}

/** Packets between the two NATs are lost, or pass again. */
function cut({ topology }: Network, isCut: boolean): void {
  const { user, service } = ADDRESSES;
  topology.net.nft(`
    table ip lab_cut
    delete table ip lab_cut
    table ip lab_cut {
      chain forward {
        type filter hook forward priority 0; policy accept;
        ${isCut ? `ip saddr { ${user.v4}, ${service.v4} } ip daddr { ${user.v4}, ${service.v4} } drop` : ''}
      }
    }`);
}

function goesBy({ agent }: Network, via: 'relay' | 'direct'): Promise<{ readonly remote: string }> {
  return waitFor(
    async () => {
      const { sessions } = await agent.status<AgentThreadStatus>();
      const link = sessions[0]?.link;
      return link?.via === via ? link : undefined;
    },
    `packets to go ${via === 'direct' ? 'directly' : 'through the relay'}`,
  );
}

async function waitFor<T>(look: () => Promise<T | undefined>, what: string): Promise<T> {
  const deadline = performance.now() + toMillis(PATIENCE);
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await delay(10);
  }
}
