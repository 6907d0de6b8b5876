/**
 * A link with loss, delay, rate, reordering and outages, each direction by itself, from a seed. For kernels without netem: a
 * program (programs/impaired-link.mjs) between two TUN devices, one in each host.
 */

import { run } from './host.js';
import type { Lab, LinkEnd, LinkOptions } from './lab.js';
import type { LabProcess } from './process.js';
import type { Counters, Profile } from './programs/impairment.mjs';
import { program } from './services.js';

export type { Counters, Profile } from './programs/impairment.mjs';

/** Packets that wait for the program: 100 ms of a gigabit in full packets. */
const QUEUE = '8000';

export interface ImpairedLinkOptions extends LinkOptions {
  /** Two links with one seed treat equal packets equally. Default 1. */
  readonly seed?: number;
  /** Both directions, or each by its own; default: a perfect link. */
  readonly profile?: Profile | Profiles;
}

export interface Profiles {
  readonly leftToRight: Profile;
  readonly rightToLeft: Profile;
}

export class ImpairedLink {
  readonly leftDevice: string;
  readonly rightDevice: string;
  private readonly wire: LabProcess;
  private changes = 0;

  /** Made by `impairedLink`. */
  constructor(wire: LabProcess, leftDevice: string, rightDevice: string) {
    this.wire = wire;
    this.leftDevice = leftDevice;
    this.rightDevice = rightDevice;
  }

  /** From when this resolves on, packets meet the new profile; those on their way keep what was decided. */
  async set(profile: Profile | Profiles, seed?: number): Promise<void> {
    const { leftToRight, rightToLeft } = split(profile);
    this.wire.write(`${JSON.stringify({ seed, left: leftToRight, right: rightToLeft })}\n`);
    await this.wire.waitForLine(new RegExp(`^profile ${++this.changes}$`));
  }

  /** What became of the packets so far. */
  async counters(): Promise<{ readonly leftToRight: Counters; readonly rightToLeft: Counters }> {
    const already = answers(this.wire).length;
    this.wire.write('{"stats":true}\n');
    await this.wire.waitFor('counters', {}, () => (answers(this.wire).length > already ? true : undefined));
    const { left, right } = JSON.parse(answers(this.wire).at(-1)!) as { left: Counters; right: Counters };
    return { leftToRight: left, rightToLeft: right };
  }
}

/** Joins two hosts by a bad cable. Its program runs in a host of its own. */
export async function impairedLink(
  lab: Lab,
  left: LinkEnd,
  right: LinkEnd,
  options: ImpairedLinkOptions = {},
): Promise<ImpairedLink> {
  const host = lab.host(`wire-${lab.hosts.size}`);
  const wire = host.spawn(program('impaired-link'), { interactive: true });
  await wire.waitForLine(/^ready$/);
  const leftDevice = lab.adopt(host, 'left', { device: `to-${right.host.name}`, ...left }, options);
  const rightDevice = lab.adopt(host, 'right', { device: `to-${left.host.name}`, ...right }, options);
  // What the cable loses is for its profile to say, not for a queue that overflows while its program waits for a processor.
  for (const [{ namespace }, device] of [[left.host, leftDevice] as const, [right.host, rightDevice] as const]) {
    run(['ip', '-n', namespace, 'link', 'set', device, 'txqueuelen', QUEUE]);
  }
  const link = new ImpairedLink(wire, leftDevice, rightDevice);
  await link.set(options.profile ?? {}, options.seed ?? 1);
  return link;
}

function split(profile: Profile | Profiles): Profiles {
  return 'leftToRight' in profile ? profile : { leftToRight: profile, rightToLeft: profile };
}

function answers(wire: LabProcess): string[] {
  return wire.stdout.split('\n').filter((line) => line.startsWith('{'));
}
