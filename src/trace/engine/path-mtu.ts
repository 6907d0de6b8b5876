/**
 * The path MTU towards every hop: probes of one size to all hops at once, which must not be fragmented, sized down as told.
 *
 *   size = the device's MTU ─► hop answers "time exceeded" (or is the target)   this size reached it
 *                           ─► "packet too big, MTU m"                          the rest is asked with m
 *                           ─► nothing, twice                                   a black hole: the next smaller usual size
 *
 * RFC 1191 §5, §7.1 (usual sizes), RFC 8201, RFC 8899 (black holes).
 */
import { type Duration, Millis, scale } from '../../base/time.js';
import { IPV4_REASSEMBLY_MIN, IPV6_MTU_MIN } from '../../wire/ip.js';
import { Probe } from '../net/probe.js';
import type { TraceOptions } from '../types.js';
import { type Asker, TOO_LARGE } from './ask.js';
import type { HopTable } from './hops.js';

/**
 * MTUs that are met in practice, in bytes: jumbo frames, Ethernet, PPPoE, common tunnels (GRE, IPsec, WireGuard over IPv4 and
 * IPv6), the least of IPv6, and those of RFC 1191.
 */
const USUAL_SIZES = [9000, 4352, 1500, 1492, 1480, 1476, 1460, 1440, 1420, 1400, 1380, 1280, 1006, 576] as const;
/** Sizes tried at most: a path has few different MTUs, a liar many. */
const ROUNDS_MAX = 16;
/** Waited for an answer, in slowest answers so far, and at least. */
const PATIENCE = 2;
const PATIENCE_MIN: Duration = Millis(200);

/** The largest usual size below `size`; 0 when there is none that every path must carry. */
export function sizeBelow(size: number, family: 4 | 6): number {
  const least = family === 4 ? IPV4_REASSEMBLY_MIN : IPV6_MTU_MIN;
  return USUAL_SIZES.find((one) => one < size && one >= least) ?? 0;
}

/** How long answers may take, from what the run has seen. */
export const patience = (hops: HopTable, timeout: Duration): Duration =>
  Math.min(timeout, Math.max(PATIENCE_MIN, scale(Millis(hops.slowest), PATIENCE))) as Duration;

/** Sets the MTU of every hop that answered, up to `lastTtl`. @param deviceMtu where to begin, in bytes */
export async function measurePathMtu(
  asker: Asker,
  hops: HopTable,
  options: TraceOptions,
  lastTtl: number,
  deviceMtu: number,
): Promise<void> {
  const { family } = options.destination;
  const wait = patience(hops, options.timeout);
  let open: number[] = [];
  for (let ttl = options.minTtl; ttl <= lastTtl; ttl++) if (!hops.isSilent(ttl)) open.push(ttl);
  let index = options.repeats;
  for (let round = 0, size = deviceMtu; round < ROUNDS_MAX && open.length > 0 && size > 0; round++) {
    const smaller = sizeBelow(size, family);
    const left: number[] = [];
    let next = 0;
    for (let attempt = 0; attempt < 2 && open.length > 0; attempt++) {
      const probes = open.map((ttl) => new Probe(ttl, index, 0, size));
      index++;
      const outcomes = await asker.ask(probes, wait);
      open = [];
      for (const probe of probes) {
        const outcome = outcomes.get(probe);
        if (outcome === undefined) open.push(probe.ttl);
        else if (outcome !== TOO_LARGE && outcome.kind !== 'packet_too_big') hops.setMtu(probe.ttl, size);
        else {
          const told = outcome === TOO_LARGE ? 0 : (outcome.mtu ?? 0);
          left.push(probe.ttl);
          next = Math.max(next, isCredible(told, size, family) ? told : smaller);
        }
      }
    }
    if (open.length > 0) next = Math.max(next, smaller);
    open = [...left, ...open].sort((a, b) => a - b);
    size = next;
  }
}

/** An MTU below what every path must carry is a lie or an old router's 0. */
const isCredible = (told: number, size: number, family: 4 | 6): boolean =>
  told < size && told >= (family === 4 ? 68 : IPV6_MTU_MIN);
