/** The flags of `sallyport trace`: those of datadog-traceroute, and ours behind them. */
import { DEFAULTS, type TraceRequest } from '../../trace/request.js';
import type { Flag, ParsedFlags } from '../flags.js';

const HELP: Flag = { name: 'help', short: 'h', kind: 'bool', usage: 'show this help' };

/** What datadog-traceroute knows, with its defaults. */
export const COMPATIBLE_FLAGS: readonly Flag[] = [
  HELP,
  { name: 'proto', short: 'P', kind: 'string', fallback: DEFAULTS.protocol, usage: 'protocol: udp, tcp or icmp' },
  { name: 'port', short: 'p', kind: 'int', fallback: DEFAULTS.port, usage: 'destination port' },
  {
    name: 'traceroute-queries',
    short: 'q',
    kind: 'int',
    fallback: DEFAULTS.queries,
    usage: 'traceroutes to run side by side',
  },
  {
    name: 'e2e-queries',
    short: 'Q',
    kind: 'int',
    fallback: DEFAULTS.endToEndQueries,
    usage: 'end-to-end probes to send',
  },
  { name: 'max-ttl', short: 'm', kind: 'int', fallback: DEFAULTS.maxTtl, usage: 'largest TTL' },
  { name: 'timeout', kind: 'int', fallback: DEFAULTS.timeoutMilliseconds, usage: 'how long to wait, milliseconds' },
  {
    name: 'tcp-method',
    kind: 'string',
    fallback: DEFAULTS.tcpMethod,
    usage: 'how to probe with TCP: syn, sack or prefer_sack',
  },
  { name: 'ipv6', kind: 'bool', usage: 'resolve names to IPv6 addresses' },
  { name: 'reverse-dns', kind: 'bool', usage: 'look up the names of hops' },
  { name: 'source-public-ip', kind: 'bool', usage: 'find out the public address of this machine' },
  { name: 'skip-private-hops', kind: 'bool', usage: 'leave out hops with private addresses' },
  { name: 'windows-driver', kind: 'bool', usage: 'Windows: use the kernel driver' },
  { name: 'verbose', short: 'v', kind: 'bool', usage: 'log what happens on standard error' },
];

export const TRACE_FLAGS: readonly Flag[] = [
  ...COMPATIBLE_FLAGS.map((flag) =>
    flag.name === 'proto' ? { ...flag, usage: 'protocol: udp, tcp, icmp or quic' } : flag,
  ),
  { name: 'path', kind: 'string', usage: 'of a running role: relay, or a peer; a relay’s: NODE, AGENT/CONNECTOR' },
  { name: 'service', kind: 'string', usage: 'the way a running agent or connector has to it' },
  { name: 'history', kind: 'bool', usage: 'what the running role has traced, and what changed' },
  { name: 'dir', kind: 'string', usage: 'state folder of the running role' },
  { name: 'json', kind: 'bool', usage: 'JSON, as a pipe gets it' },
  { name: 'csv', kind: 'bool', usage: 'one line of comma-separated values for each hop' },
  { name: 'markdown', kind: 'bool', usage: 'a Markdown table' },
  { name: 'dot', kind: 'bool', usage: 'the paths as a Graphviz graph' },
  { name: 'svg', kind: 'bool', usage: 'the paths as a picture' },
  { name: 'extended', kind: 'bool', usage: 'JSON with everything known, behind the compatible keys' },
  { name: 'watch', short: 'w', kind: 'bool', usage: 'trace again and again' },
  { name: 'interval', kind: 'int', fallback: 1_000, usage: 'between two rounds of --watch, milliseconds' },
  { name: 'asn', kind: 'bool', usage: 'look up autonomous systems of public addresses (on in the live table)' },
  { name: 'location', kind: 'bool', usage: 'show the country an address is registered in' },
  { name: 'min-ttl', short: 'f', kind: 'int', fallback: 1, usage: 'first TTL' },
  { name: 'repeats', short: 'n', kind: 'int', fallback: 1, usage: 'probes for each hop of a run' },
  { name: 'send-delay', kind: 'int', fallback: 50, usage: 'between two probes of a run, milliseconds (SACK: 10)' },
  { name: 'e2e-interval', kind: 'int', usage: 'between two end-to-end probes, milliseconds (all within a second)' },
  { name: 'paris', kind: 'bool', usage: 'keep all probes of a run on one path of several' },
  { name: 'multipath', kind: 'bool', usage: 'find every equal-cost path' },
  { name: 'confidence', kind: 'float', fallback: 0.95, usage: 'of --multipath, above 0 and below 1' },
  { name: 'pmtu', kind: 'bool', usage: 'find the largest packet that reaches each hop' },
  { name: 'gap-limit', kind: 'int', fallback: 0, usage: 'silent hops in a row that end a run (0: never)' },
  { name: 'rate', kind: 'int', fallback: 0, usage: 'most probes a second of a run (0: as --send-delay says)' },
  { name: 'source', short: 's', kind: 'string', usage: 'source address' },
  { name: 'interface', short: 'i', kind: 'string', usage: 'device to send by' },
  { name: 'mark', kind: 'int', usage: 'firewall mark of probes' },
  { name: 'source-port', kind: 'int', usage: 'source port of the first traceroute; others take the next ones' },
  { name: 'tos', kind: 'int', fallback: 0, usage: 'type of service or traffic class of probes, 0 to 255' },
  { name: 'packet-size', kind: 'int', usage: 'size of probes with all headers, bytes' },
  {
    name: 'privilege',
    kind: 'string',
    fallback: 'auto',
    usage: 'auto, raw, or unprivileged (without raw sockets)',
  },
];

/** The request the flags make; what was not given is left to its default. */
export function requestOf({ values }: ParsedFlags): TraceRequest {
  const set = <K extends keyof TraceRequest>(key: K, flag: string): Partial<TraceRequest> => {
    const value = values.get(flag);
    return value === undefined ? {} : { [key]: value };
  };
  return {
    ...set('protocol', 'proto'),
    ...set('tcpMethod', 'tcp-method'),
    ...set('port', 'port'),
    ...set('queries', 'traceroute-queries'),
    ...set('endToEndQueries', 'e2e-queries'),
    ...set('endToEndIntervalMilliseconds', 'e2e-interval'),
    ...set('minTtl', 'min-ttl'),
    ...set('maxTtl', 'max-ttl'),
    ...set('timeoutMilliseconds', 'timeout'),
    ...set('sendDelayMilliseconds', 'send-delay'),
    ...set('repeats', 'repeats'),
    ...set('paris', 'paris'),
    ...set('ipv6', 'ipv6'),
    ...set('source', 'source'),
    ...set('device', 'interface'),
    ...set('mark', 'mark'),
    ...set('sourcePort', 'source-port'),
    ...set('tos', 'tos'),
    ...set('packetSize', 'packet-size'),
    ...set('gapLimit', 'gap-limit'),
    ...set('rate', 'rate'),
    ...set('pmtu', 'pmtu'),
    ...set('privilege', 'privilege'),
    ...set('windowsDriver', 'windows-driver'),
    ...set('reverseDns', 'reverse-dns'),
    ...set('networks', 'asn'),
    ...set('sourcePublicIp', 'source-public-ip'),
    ...(values.get('location') === true && { networks: true }),
    ...(values.get('multipath') === true && {
      multipath: Number(values.get('confidence') ?? 0.95),
      // One discovery says more than several.
      queries: Number(values.get('traceroute-queries') ?? 1),
    }),
  };
}
