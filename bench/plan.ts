/** What one run measures, for how long, and the rows that come out of it. */

export interface Row {
  readonly id: string;
  readonly label: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
}

export interface Plan {
  readonly rounds: number;
  readonly tcpFlows: readonly number[];
  readonly tcpSeconds: number;
  /** Offered payload rates in Mbit/s. */
  readonly udpRates: readonly number[];
  readonly udpSeconds: number;
  readonly pings: number;
  readonly pingIntervalMs: number;
}

/** Three subjects in at most four minutes. */
export const QUICK: Plan = {
  rounds: 3,
  tcpFlows: [1, 8],
  tcpSeconds: 2,
  udpRates: [100, 500, 1000],
  udpSeconds: 2,
  pings: 200,
  pingIntervalMs: 10,
};

/** About a quarter of an hour. */
export const FULL: Plan = {
  rounds: 5,
  tcpFlows: [1, 8],
  tcpSeconds: 8,
  udpRates: [100, 500, 1000],
  udpSeconds: 4,
  pings: 500,
  pingIntervalMs: 10,
};

/** Largest IP packet of every tunnel, in bytes: what fits, with QUIC and relay headers, into a 1500-byte link. */
export const TUNNEL_MTU = 1400;

/** UDP payload that fills the tunnel's packets: MTU less the IPv4 (20) and UDP (8) headers. */
export const UDP_SIZE = TUNNEL_MTU - 20 - 8;

export function rowsOf(plan: Plan): Row[] {
  const rows: Row[] = [];
  for (const flows of plan.tcpFlows) {
    for (const direction of ['up', 'down'] as const) {
      const label = `TCP ${flows} flow${flows === 1 ? '' : 's'} ${direction}`;
      rows.push({ id: tcpId(flows, direction), label, unit: 'Mbit/s', better: 'higher' });
    }
  }
  for (const rate of plan.udpRates) {
    rows.push({ id: udpId(rate, 'delivered'), label: `UDP ${rate}M delivered`, unit: 'Mbit/s', better: 'higher' });
    rows.push({ id: udpId(rate, 'loss'), label: `UDP ${rate}M lost`, unit: '%', better: 'lower' });
  }
  rows.push({ id: 'rtt-p50', label: 'ping p50', unit: 'ms', better: 'lower' });
  rows.push({ id: 'rtt-p95', label: 'ping p95', unit: 'ms', better: 'lower' });
  rows.push({ id: 'rtt-p99', label: 'ping p99', unit: 'ms', better: 'lower' });
  rows.push({ id: 'rtt-lost', label: 'ping lost', unit: '%', better: 'lower' });
  rows.push({ id: 'cpu-gb', label: 'CPU, its processes', unit: 's/GB', better: 'lower' });
  rows.push({ id: 'cpu-gb-all', label: 'CPU, whole machine', unit: 's/GB', better: 'lower' });
  rows.push({ id: 'rss', label: 'memory peak', unit: 'MB', better: 'lower' });
  rows.push({ id: 'ready', label: 'start to first byte', unit: 'ms', better: 'lower' });
  return rows;
}

export const tcpId = (flows: number, direction: 'up' | 'down'): string => `tcp-${flows}-${direction}`;
export const udpId = (rate: number, what: 'delivered' | 'loss'): string => `udp-${rate}-${what}`;
