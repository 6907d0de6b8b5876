/**
 * What is measured, over which links, for how long, and the rows that come out of it.
 *
 *   clean link: TCP, UDP at fixed rates, ping, CPU, memory, start      a laboratory for each run
 *   lossy link: TCP and UDP at one rate                                one laboratory for all of them, the link changes in between
 */
import type { Profile } from '../test/lab/impaired-link.js';

export type Direction = 'up' | 'down';

export interface Row {
  readonly id: string;
  /** Id of the link. */
  readonly link: string;
  readonly label: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
}

export interface Link {
  readonly id: string;
  readonly label: string;
  /** Each direction of the user's link; missing: a perfect cable. */
  readonly profile?: Profile;
  /** Congestion control of the measuring programs' kernel sockets, both ends; missing: the machine's default. */
  readonly congestion?: string;
}

/** How long each measurement takes. */
export interface Times {
  readonly tcpSeconds: number;
  /** Offered payload rates in Mbit/s. */
  readonly udpRates: readonly number[];
  readonly udpSeconds: number;
  readonly pings: number;
  readonly pingIntervalMs: number;
}

export interface Plan {
  readonly rounds: number;
  readonly links: readonly Link[];
  readonly clean: Times;
  readonly lossy: Times;
  /** No run begins after this many minutes. */
  readonly minutes: number;
}

export const TCP_FLOWS: readonly number[] = [1, 8];
export const DIRECTIONS: readonly Direction[] = ['up', 'down'];

/** Largest IP packet of every tunnel, in bytes: what fits, with QUIC and relay headers, into a 1500-byte link. */
export const TUNNEL_MTU = 1400;

/** UDP payload that fills the tunnel's packets: MTU less the IPv4 (20) and UDP (8) headers. */
export const UDP_SIZE = TUNNEL_MTU - 20 - 8;

/** Small datagrams, over the clean link: UDP payload in bytes, and how many thousand a second are offered. */
export const SMALL_SIZE = 64;
export const SMALL_RATE = 100;

/** Bits per second of lossy links: below what the program that makes them carries, so that it never is the limit. */
export const LOSSY_RATE = 200e6;

export const CLEAN: Link = { id: 'clean', label: 'clean' };

const LOSSES = [0.1, 1, 2, 5];
const ROUND_TRIPS_MS = [20, 100];
/** Under loss nothing decides as much as this: CUBIC is the default of most systems, BBR hardly minds random loss. */
const CONGESTION_CONTROLS = ['cubic', 'bbr'];

export const LOSSY: readonly Link[] = CONGESTION_CONTROLS.flatMap((congestion) =>
  ROUND_TRIPS_MS.flatMap((rtt) =>
    LOSSES.map((percent) => ({
      id: `loss${percent}-rtt${rtt}-${congestion}`,
      label: `${percent} % loss, ${rtt} ms, ${congestion}`,
      profile: { loss: percent / 100, delay: rtt / 2, rate: LOSSY_RATE },
      congestion,
    })),
  ),
);

/** The programs' own subjects when no other is asked for: all of them. */
export const QUICK_SUBJECTS: readonly string[] = ['none', 'wireguard-go', 'sallyport'];

/** Three subjects over the clean link in at most four minutes. */
export const QUICK: Plan = {
  rounds: 3,
  links: [CLEAN],
  clean: { tcpSeconds: 2, udpRates: [100, 500, 1000], udpSeconds: 2, pings: 200, pingIntervalMs: 10 },
  lossy: { tcpSeconds: 3, udpRates: [50], udpSeconds: 2, pings: 0, pingIntervalMs: 10 },
  minutes: 4,
};

/** All subjects over the clean link: about a quarter of an hour. */
export const STANDARD: Plan = {
  rounds: 3,
  links: [CLEAN],
  clean: { tcpSeconds: 4, udpRates: [100, 500, 1000], udpSeconds: 3, pings: 300, pingIntervalMs: 10 },
  lossy: { tcpSeconds: 5, udpRates: [50], udpSeconds: 3, pings: 0, pingIntervalMs: 10 },
  minutes: 30,
};

/** Everything: about three hours. */
export const FULL: Plan = {
  rounds: 5,
  links: [CLEAN, ...LOSSY],
  clean: { tcpSeconds: 8, udpRates: [100, 500, 1000], udpSeconds: 4, pings: 500, pingIntervalMs: 10 },
  lossy: { tcpSeconds: 10, udpRates: [50], udpSeconds: 5, pings: 0, pingIntervalMs: 10 },
  minutes: 240,
};

/** `up`: from the user to the service. */
export const tcpId = (link: string, flows: number, direction: Direction): string => `${link}/tcp-${flows}-${direction}`;
export const fairId = (link: string, flows: number, direction: Direction): string =>
  `${link}/fair-${flows}-${direction}`;
export const udpId = (link: string, rate: number, what: 'delivered' | 'loss'): string => `${link}/udp-${rate}-${what}`;
export const smallId = (what: 'delivered' | 'loss'): string => `${CLEAN.id}/udp-small-${what}`;
export const cleanId = (what: CleanRow): string => `${CLEAN.id}/${what}`;

const CLEAN_ROWS = {
  'rtt-first-p50': ['ping p50, first after start', 'ms'],
  'rtt-p50': ['ping p50', 'ms'],
  'rtt-p95': ['ping p95', 'ms'],
  'rtt-p99': ['ping p99', 'ms'],
  'rtt-lost': ['ping lost', '%'],
  'cpu-gb': ['CPU, its processes', 's/GB'],
  'cpu-gb-all': ['CPU, whole machine', 's/GB'],
  rss: ['memory peak', 'MB'],
  ready: ['start to first byte', 'ms'],
} as const;

export type CleanRow = keyof typeof CLEAN_ROWS;

/** All rows of the plan, link by link. */
export function rowsOf(plan: Plan): Row[] {
  return plan.links.flatMap((link) => linkRows(link, link.profile === undefined ? plan.clean : plan.lossy));
}

function linkRows(link: Link, times: Times): Row[] {
  const rows: Row[] = [];
  const add = (id: string, label: string, unit: string, better: Row['better']): void => {
    rows.push({ id, link: link.id, label, unit, better });
  };
  for (const flows of TCP_FLOWS) {
    for (const direction of DIRECTIONS) {
      const label = `TCP ${flows} flow${flows === 1 ? '' : 's'} ${direction}`;
      add(tcpId(link.id, flows, direction), label, 'Mbit/s', 'higher');
      if (flows > 1) add(fairId(link.id, flows, direction), `${label}, Jain's index`, '', 'higher');
    }
  }
  for (const rate of times.udpRates) {
    add(udpId(link.id, rate, 'delivered'), `UDP ${rate}M delivered`, 'Mbit/s', 'higher');
    add(udpId(link.id, rate, 'loss'), `UDP ${rate}M lost`, '%', 'lower');
  }
  if (link.profile !== undefined) return rows;
  const small = `UDP ${SMALL_SIZE} B`;
  add(smallId('delivered'), `${small} delivered`, 'k/s', 'higher');
  add(smallId('loss'), `${small} lost`, '%', 'lower');
  for (const [id, [label, unit]] of Object.entries(CLEAN_ROWS)) add(cleanId(id as CleanRow), label, unit, 'lower');
  return rows;
}
