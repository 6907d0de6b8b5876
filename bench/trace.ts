/**
 * Wall time of a default trace over a chain of routers: started by trace.mjs.
 *
 *   host 0 ═══ host 1 ═══ … ═══ host 10        ═══ a link that holds every packet back for `delay` milliseconds
 *
 * What nobody can remove: the target's RTT, and the time over which end-to-end probes are spread. The rest is the program's.
 */
import { parseArgs } from 'node:util';
import { sallyport } from '../test/e2e/role.js';
import { impairedLink } from '../test/lab/impaired-link.js';
import { Lab } from '../test/lab/lab.js';
import { near, prepare } from '../test/privileged/trace/chain.js';
import { quantile } from './statistics.js';

const HOPS = 10;
const PROTOCOLS = ['udp', 'icmp', 'tcp'] as const;

const { values: options, positionals: flags } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string', default: '10' },
    delay: { type: 'string', default: '10' },
    json: { type: 'boolean', default: false },
  },
});

const lab = new Lab();
try {
  const hosts = Array.from({ length: HOPS + 1 }, (_, n) => lab.router(`h${n}`));
  for (let n = 1; n <= HOPS; n++) {
    await impairedLink(
      lab,
      { host: hosts[n - 1]!, device: 'right', addresses: [`10.9.${n}.1/24`, `fd09:${n}::1/64`] },
      { host: hosts[n]!, device: 'left', addresses: [`10.9.${n}.2/24`, `fd09:${n}::2/64`] },
      { profile: { delay: Number(options.delay) } },
    );
  }
  prepare(hosts);
  for (const family of [4, 6] as const) {
    for (const protocol of PROTOCOLS) {
      const took: number[] = [];
      let complete = 0;
      for (let run = 0; run < Number(options.runs); run++) {
        const started = performance.now();
        const { stdout } = await hosts[0]!.exec(sallyport('trace', '-P', protocol, ...flags, near(HOPS, family)));
        took.push(performance.now() - started);
        if (isComplete(stdout, near(HOPS, family))) complete++;
      }
      show({ protocol, family, runs: took.length, complete, p50: quantile(took, 0.5), p95: quantile(took, 0.95) });
    }
  }
} finally {
  await lab.destroy();
}

/** Every run found every hop, and no end-to-end probe was lost. */
function isComplete(json: string, target: string): boolean {
  const { traceroute, e2e_probe: series } = JSON.parse(json) as {
    traceroute: { runs: { hops: { reachable: boolean; ip_address: string }[] }[] };
    e2e_probe: { packets_sent: number; packets_received: number };
  };
  const found = traceroute.runs.every(
    ({ hops }) => hops.length === HOPS && hops.every((hop) => hop.reachable) && hops.at(-1)!.ip_address === target,
  );
  return found && series.packets_sent === series.packets_received;
}

function show(row: {
  protocol: string;
  family: number;
  runs: number;
  complete: number;
  p50: number;
  p95: number;
}): void {
  if (options.json) {
    console.log(JSON.stringify(row));
    return;
  }
  const { protocol, family, runs, complete, p50, p95 } = row;
  console.log(
    `${protocol} over IPv${family}: p50 ${(p50 / 1000).toFixed(2)} s, p95 ${(p95 / 1000).toFixed(2)} s; complete ${complete} of ${runs}`,
  );
}
