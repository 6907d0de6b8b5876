/**
 * A running `tun2socks` as the main thread sees it: its packet thread, the device's addresses and routes, the host's resolver.
 */
import { join } from 'node:path';
import { IpAddress, Prefix, SocketAddress } from '../base/address.js';
import { describeError, SallyportError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { Seconds, toMillis } from '../base/time.js';
import { checkFakeRange, FAKE_RANGE_V4, FAKE_RANGE_V6 } from '../engine/dns/fake-ip.js';
import type { DnsMode } from '../engine/dns/service.js';
import type { UdpFiltering } from '../engine/flow-options.js';
import { lintRules } from '../engine/rules/lint.js';
import { parseRule } from '../engine/rules/rule.js';
import type { PresetName } from '../engine/settings.js';
import type { NetworkConfig } from '../os/io.js';
import { createNetwork } from '../os/linux/network.js';
import { ResolverFile } from '../os/linux/resolver-file.js';
import { ThreadHost } from '../os/thread.js';
import { planRoutes } from './route-plan.js';
import type { Tun2socksProtocol, Tun2socksThreadData, Tun2socksThreadStatus, WayOut } from './thread-protocol.js';
import type { TrafficOptions } from './traffic.js';

/** Packets the kernel holds for the device: a burst of programs is read faster than it is sent on, and nothing holds programs back. */
const QUEUE_LENGTH = 16_384;
/** How often the way out is looked at: a change of network is noticed by people after seconds. */
const PATH_CHECK = Seconds(5);
/** Rules that the packet thread is given at once: it reads them between two packets, in well under a millisecond. */
const RULES_AT_ONCE = 100;
/** Warnings about rules in the log; long lists are generated, and repeat themselves. */
const RULE_WARNINGS = 20;
const STOP_WITHIN = Seconds(1);

export interface Tun2socksOptions {
  /** State folder. */
  readonly dir: string;
  readonly tun: string;
  readonly addresses: readonly string[];
  readonly mtu: number;
  readonly preset: PresetName;
  readonly udpFiltering: UdpFiltering;
  readonly way: WayOut;
  readonly interface: string | undefined;
  readonly mark: number | undefined;
  readonly routes: boolean;
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly dns: readonly string[];
  readonly dnsMode: DnsMode;
  /** Empty: the host's own name servers. */
  readonly dnsServers: readonly string[];
  readonly dnsStaleSeconds: number;
  readonly rules: readonly string[];
  readonly pcap: string | undefined;
  readonly log: Log;
  readonly onDeath: (error: SallyportError) => void;
}

export interface RunningTun2socks {
  readonly device: string;
  readonly routes: readonly string[];
  status(): Promise<Tun2socksThreadStatus>;
  /** Other rules; flows that they allow go on. @param rules texts that parse */
  setRules(rules: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

/** @throws SallyportError those of the device, the sockets and the network configuration (environment). */
export async function startTun2socks(options: Tun2socksOptions): Promise<RunningTun2socks> {
  const { dir, log, way } = options;
  const network = createNetwork({ journal: join(dir, 'network.journal') });
  const resolver = new ResolverFile(join(dir, 'resolv.conf.saved'));
  // A proxy's address is not routed into the device, so only direct flows need to be kept out of it.
  const follows =
    way.kind === 'direct' && isRouted(options) && options.interface === undefined && options.mark === undefined;
  let out = options.interface ?? (follows ? defaultDevice(network) : undefined);
  if (follows && out === undefined) {
    throw new SallyportError('environment', 'NO_DEFAULT_ROUTE', 'this host has no default route', {
      hint: 'name the interface that sockets leave by: --interface',
    });
  }
  const data: Tun2socksThreadData = {
    tun: options.tun,
    mtu: options.mtu,
    preset: options.preset,
    udpFiltering: options.udpFiltering,
    way,
    device: out,
    mark: options.mark,
    traffic: planTraffic(options, network, resolver),
  };
  warnOfRules(options.rules, log);
  const thread = await ThreadHost.start<Tun2socksProtocol>({
    url: new URL('./packet-thread.js', import.meta.url),
    name: 'tun2socks',
    data,
    onEvent: (_name, { events, dropped }) => {
      for (const { at: _at, kind, ...fields } of events) log.debug(fields, `flow ${kind}`);
      if (dropped > 0) log.debug({ dropped }, 'more happened to flows than is told here');
    },
    onBug: (error, suppressed) =>
      log.error({ error: error.message, suppressed }, 'unexpected error on the packet path'),
    onStall: (span) => log.error({ milliseconds: toMillis(span) }, 'the packet thread does not answer'),
    onDeath: options.onDeath,
  });
  const undo = (): void => {
    resolver.undo();
    network.undo();
  };
  let routes: string[];
  let device: string;
  try {
    ({ device } = await thread.request('status', undefined));
    routes = configure(options, network, device);
    if (options.dnsMode === 'fake-ip') {
      for (const range of [FAKE_RANGE_V4, FAKE_RANGE_V6]) network.addRoute(device, range.toString());
    }
    const own = options.routes && options.dnsMode !== 'off' ? data.traffic.dnsAddresses : [];
    const nameServers = options.dns.length > 0 ? options.dns : own;
    if (nameServers.length > 0) resolver.use(nameServers);
  } catch (error) {
    undo();
    await thread.stop(STOP_WITHIN);
    throw error;
  }
  const look = (): void => {
    const now = defaultDevice(network);
    // Without a default route sockets stay where they are: unbound, they would come back through the device.
    if (now === undefined || now === out || now === device) return;
    out = now;
    log.info({ interface: now }, 'the way out has changed');
    thread.request('path', { device: now }).catch(() => undefined);
  };
  const watch = follows ? setInterval(look, toMillis(PATH_CHECK)).unref() : undefined;
  return {
    device,
    routes,
    status: () => thread.request('status', undefined),
    setRules: async (rules) => {
      warnOfRules(rules, log);
      let at = 0;
      do {
        const piece = rules.slice(at, at + RULES_AT_ONCE);
        at += RULES_AT_ONCE;
        await thread.request('rules', { rules: piece, last: at >= rules.length });
      } while (at < rules.length);
    },
    stop: async () => {
      clearInterval(watch);
      // Programs learn of it while the device can still carry it.
      await thread.request('shutdown', undefined).catch(() => undefined);
      try {
        undo();
      } catch (error) {
        log.error({ error: describeError(error) }, 'not everything was put back; the next start tries again');
      }
      await thread.stop(STOP_WITHIN);
    },
  };
}

function warnOfRules(rules: readonly string[], log: Log): void {
  for (const { message } of lintRules(rules.map(parseRule)).slice(0, RULE_WARNINGS)) {
    log.warn({ rule: message }, 'a rule that is surely not meant');
  }
}

/** Gives the device its addresses and, when asked for, routes; returns those. */
function configure(options: Tun2socksOptions, network: NetworkConfig, device: string): string[] {
  const { log } = options;
  network.linkUp(device, options.mtu, QUEUE_LENGTH);
  for (const text of options.addresses) {
    const { ip, length } = addressOf(text);
    network.addAddress(device, ip, length);
  }
  if (!isRouted(options)) return [];
  const { way } = options;
  const planned = planRoutes({
    include: options.include.map(prefixOf),
    exclude: options.exclude.map(prefixOf),
    upstream: way.kind === 'direct' ? [] : [SocketAddress.parse(way.address)!.ip],
  });
  const families = new Set(options.addresses.map((text) => (text.includes(':') ? 6 : 4)));
  const made: string[] = [];
  for (const prefix of planned) {
    if (!families.has(prefix.ip.family)) continue;
    try {
      network.addRoute(device, prefix.toString());
      made.push(prefix.toString());
    } catch (error) {
      log.warn({ prefix: prefix.toString(), error: describeError(error) }, 'this prefix is not routed into the device');
    }
  }
  return made;
}

const isRouted = ({ routes, include }: Tun2socksOptions): boolean => routes || include.length > 0;

/**
 * @throws SallyportError DNS_SERVERS (caller), FAKE_IP_OVERLAP (caller): a range of fake addresses is a local network.
 */
function planTraffic(options: Tun2socksOptions, network: NetworkConfig, resolver: ResolverFile): TrafficOptions {
  const { dnsMode, dnsStaleSeconds, rules, pcap, addresses } = options;
  const none = { dnsMode, dnsServers: [], dnsAddresses: [], dnsStaleSeconds, rules, pcap };
  if (dnsMode === 'off') return none;
  const dnsServers = options.dnsServers.length > 0 ? options.dnsServers : resolver.nameServers();
  if (dnsServers.length === 0) {
    throw new SallyportError('caller', 'DNS_SERVERS', 'nobody is there to ask: this host has no name servers', {
      hint: 'name them with --dns-server ADDRESS',
    });
  }
  if (dnsMode === 'fake-ip') {
    const routes = network.routes().flatMap(({ prefix, device }) => (device === options.tun ? [] : [prefix]));
    for (const range of [FAKE_RANGE_V4, FAKE_RANGE_V6]) checkFakeRange(range, routes);
  }
  return { ...none, dnsServers, dnsAddresses: addresses.flatMap((text) => neighbourOf(text) ?? []) };
}

/** The address after the device's own in its network, at which the resolver answers: 10.83.0.1/30 → 10.83.0.2. */
function neighbourOf(text: string): string | undefined {
  const { ip, length } = addressOf(text);
  const { w0, w1, w2, w3 } = IpAddress.parse(ip)!;
  const next = new IpAddress(w0, w1, w2, (w3 + 1) >>> 0);
  const network = Prefix.of(IpAddress.parse(ip)!, length);
  return network?.contains(next) === true ? next.toString() : undefined;
}

function defaultDevice(network: NetworkConfig): string | undefined {
  return network.routes().find(({ prefix }) => prefix.length === 0)?.device;
}

const prefixOf = (text: string): Prefix => Prefix.parse(text)!;

/** `10.83.0.1/30` as address and prefix length, host bits kept. */
function addressOf(text: string): { readonly ip: string; readonly length: number } {
  const [ip, length] = text.split('/');
  return { ip: ip!, length: Number(length ?? (text.includes(':') ? 128 : 32)) };
}
