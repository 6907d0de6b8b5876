/** `sallyport tun2socks`: the engine alone; what enters a TUN device leaves through sockets or a proxy. */
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { SallyportError } from '../../base/error.js';
import { makeFolder } from '../../identity/files.js';
import { resolveHost } from '../../node/relay-name.js';
import { parseProxyUrl } from '../../tun2socks/proxy-url.js';
import { readRuleFile } from '../../tun2socks/rule-file.js';
import { startTun2socks } from '../../tun2socks/run.js';
import type { WayOut } from '../../tun2socks/thread-protocol.js';
import type { CommandContext } from '../context.js';
import { numberText } from '../key-text.js';
import { createLog } from '../log.js';
import { traceCounters } from '../moved-counters.js';
import { runRole } from '../role.js';
import { addRoleOptions, LiveConfig, many, type RoleFlags } from '../role-options.js';
import { Tun2socksConfig } from '../tun2socks-config.js';

interface Flags extends RoleFlags {
  readonly tun?: string;
  readonly address?: string[];
  readonly mtu?: string;
  readonly preset?: string;
  readonly direct?: boolean;
  readonly proxy?: string;
  readonly interface?: string;
  readonly mark?: string;
  readonly udpFiltering?: string;
  readonly routes?: boolean;
  readonly include?: string[];
  readonly exclude?: string[];
  readonly dns?: string[];
  readonly dnsMode?: string;
  readonly dnsServer?: string[];
  readonly dnsStale?: string;
  readonly rule?: string[];
  /** File of rules. */
  readonly rules?: string;
  readonly pcap?: string;
}

type Config = Tun2socksConfig & { readonly dir: string };

export function register(program: Command, context: CommandContext): void {
  const command = program
    .command('tun2socks')
    .option('--tun <name>', 'name of the TUN device, made if need be (default sallyport0)')
    .option('--direct', 'flows leave through sockets of this host')
    .option('--proxy <url>', 'flows leave through socks5://[user:password@]host[:port], socks5h://… or http://…')
    .option('--routes', 'route everything but the local networks into the device while this runs')
    .option('--include <prefix>', 'route this prefix, instead of everything', many)
    .option('--exclude <prefix>', 'do not route this prefix', many)
    .option('--dns <address>', 'the host’s name server while this runs', many)
    .option('--dns-mode <mode>', 'answer DNS inside: off (default), forward, hijack or fake-ip')
    .option(
      '--dns-server <address>',
      'ask this name server (default: the host’s); also tcp://IP, tls://IP#NAME, https://IP/PATH#NAME',
      many,
    )
    .option(
      '--dns-stale <seconds>',
      'give answers for so long after their time when no name server answers (default 0)',
    )
    .option(
      '--rule <rule>',
      'allow, block, reject or shape flows, e.g. "shape port=443 rate=2mbit delay=50ms"; first match',
      many,
    )
    .option('--rules <file>', 'more rules, one a line; SIGHUP reads them again, and flows they allow go on')
    .option('--pcap <file>', 'write every packet, with the names of flows, into this pcapng file')
    .option('--interface <name>', 'interface that sockets leave by (with --routes: that of the default route)')
    .option('--mark <number>', 'mark of sockets, for routing rules of your own')
    .option('--udp-filtering <mode>', 'endpoint-independent (default), address-dependent or address-and-port-dependent')
    .option(
      '--address <address/length>',
      'address of the device (default 10.83.0.1/30 and fd53:616c:6c79::1/126)',
      many,
    )
    .option('--mtu <bytes>', 'MTU of the device (default 1500)')
    .option('--preset <name>', 'mobile (128 flows of each kind, 15 MB) or server (default)')
    .option('--dir <dir>', 'state folder (default: tun2socks in the usual one)');
  addRoleOptions(command).action((flags: Flags) => run(flags, context));
}

/** Keys that a reload may change. */
const LIVE = ['rules', 'rulesFile'] as const;

/** @throws SallyportError RULES_FILE (caller). */
const rulesOf = ({ rules, rulesFile }: Config): string[] => [
  ...rules,
  ...(rulesFile === undefined ? [] : readRuleFile(resolve(rulesFile))),
];

async function run(flags: Flags, context: CommandContext): Promise<void> {
  const {
    config: file,
    mtu,
    mark,
    address: addresses,
    dnsServer: dnsServers,
    dnsStale,
    rule: rules,
    rules: rulesFile,
    ...rest
  } = flags;
  const given = {
    ...rest,
    addresses,
    dnsServers,
    rules,
    rulesFile,
    mtu: numberText(mtu),
    mark: numberText(mark),
    dnsStaleSeconds: numberText(dnsStale),
  };
  const live = await LiveConfig.read<typeof Tun2socksConfig, Config>(
    Tun2socksConfig,
    'tun2socks',
    file,
    given,
    LIVE,
    context,
  );
  const config = live.current;
  const dir = flags.dir === undefined ? join(config.dir, 'tun2socks') : config.dir;
  const log = createLog('tun2socks', config.logLevel, process.stderr.isTTY);
  makeFolder(dir);
  process.exitCode = await runRole({
    role: 'tun2socks',
    dir,
    log,
    crypto: context.crypto,
    exitAfter: config.exitAfter,
    start: async (onDeath) => {
      const way = await wayOut(config);
      const running = await startTun2socks({
        dir,
        tun: config.tun,
        addresses: config.addresses,
        mtu: config.mtu,
        preset: config.preset,
        udpFiltering: config.udpFiltering,
        way,
        interface: config.interface,
        mark: config.mark,
        routes: config.routes,
        include: config.include,
        exclude: config.exclude,
        dns: config.dns,
        dnsMode: config.dnsMode,
        dnsServers: config.dnsServers,
        dnsStaleSeconds: config.dnsStaleSeconds,
        rules: rulesOf(config),
        pcap: config.pcap === undefined ? undefined : resolve(config.pcap),
        log,
        onDeath,
      });
      log.info({ tun: running.device, way: way.kind, routes: running.routes.length }, 'tun2socks started');
      const stopTracing = traceCounters(log, async () => (await running.status()).metrics.values);
      return {
        status: async () => ({ name: running.device, ...(await running.status()) }),
        reload: () => live.reload(log, (next) => running.setRules(rulesOf(next))),
        stop: () => {
          stopTracing();
          return running.stop();
        },
      };
    },
  });
}

/** @throws SallyportError WAY_OUT (caller) unless there is exactly one; PROXY_NOT_FOUND (environment). */
async function wayOut({ direct, proxy }: Config): Promise<WayOut> {
  if (direct === (proxy !== undefined)) {
    throw new SallyportError('caller', 'WAY_OUT', 'one of --direct and --proxy URL says how flows leave');
  }
  if (proxy === undefined) return { kind: 'direct' };
  const { kind, host, port, user, password } = parseProxyUrl(proxy);
  const { addresses, problem } = await resolveHost(host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);
  const address = addresses[0];
  if (address === undefined) {
    throw new SallyportError(
      'environment',
      'PROXY_NOT_FOUND',
      `the proxy ${host} is not found: ${problem ?? 'no address'}`,
    );
  }
  return { kind, address, user, password };
}
