/**
 * A network laboratory: hosts (network namespaces) joined by links and switches, and the programs that run in them. Everything
 * it made goes with `destroy()`, with the end of this process, or, after a crash, with the next `Lab.cleanStale()`.
 *
 *   new Lab ─ host / link / lan / route ─► programs ─ destroy ─► nothing left
 *                                            └─ exit, SIGINT, SIGTERM, SIGHUP of this process: the same, at once
 */
import { existsSync, rmSync } from 'node:fs';
import { SallyportError } from '../../src/base/error.js';
import { Host, run } from './host.js';
import { namespaceName, ownerLives, parseNamespace, processStart } from './naming.js';
import type { LabProcess } from './process.js';

const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** How often the programs of a namespace are looked for and ended before it is deleted. */
const KILL_ROUNDS = 10;

/** Interface numbers of links start here, above those that the kernel gives out by itself. */
const FIRST_INTERFACE = 100;

/** Numbers the laboratories of this process. */
let nextSerial = 0;

/** One end of a link: a host and its addresses with prefix length, of either family. */
export interface LinkEnd {
  readonly host: Host;
  readonly addresses?: readonly string[];
  /** Default: `to-` and the other end's name. */
  readonly device?: string;
}

export interface LinkOptions {
  /** Bytes of IP packet; default 1500. */
  readonly mtu?: number;
}

export class Lab {
  readonly hosts = new Map<string, Host>();
  private readonly serial = nextSerial++;
  private readonly processes = new Set<LabProcess>();
  private readonly owner = { pid: process.pid, start: processStart(process.pid) ?? '0' };
  private readonly onExit = (): void => this.destroyNow();
  private readonly onSignal = (signal: NodeJS.Signals): void => {
    this.destroyNow();
    // The default action, now that nobody here listens any more: the caller's exit status stays what it would have been.
    if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
  };
  private nextInterface = FIRST_INTERFACE;
  private destroyed = false;

  /** Throws LAB_NOT_AVAILABLE where `Lab.unavailable` gives a reason. */
  constructor() {
    const reason = Lab.unavailable();
    if (reason !== undefined) throw new SallyportError('environment', 'LAB_NOT_AVAILABLE', reason);
    process.once('exit', this.onExit);
    for (const signal of SIGNALS) process.on(signal, this.onSignal);
  }

  /** Why this machine cannot run a laboratory in which these programs are used too, or undefined when it can. */
  static unavailable(...programs: readonly string[]): string | undefined {
    if (process.platform !== 'linux') return 'network namespaces need Linux';
    if (process.geteuid?.() !== 0) return 'network namespaces need root';
    const missing = ['/dev/net/tun'].filter((path) => !existsSync(path));
    for (const program of ['ip', 'nft', ...programs]) {
      if (!['/usr/sbin', '/sbin', '/usr/bin', '/bin'].some((folder) => existsSync(`${folder}/${program}`))) {
        missing.push(program);
      }
    }
    return missing.length === 0 ? undefined : `missing: ${missing.join(', ')} (see test/lab/packages.txt)`;
  }

  /** Removes the namespaces, and ends the programs in them, of laboratories whose process is gone. Returns their names. */
  static cleanStale(): string[] {
    const stale = listNamespaces().filter((name) => {
      const owner = parseNamespace(name);
      return owner !== undefined && !ownerLives(owner);
    });
    for (const name of stale) removeNamespace(name);
    return stale;
  }

  /** Makes a host. Its loopback is up; forwarding is off. */
  host(name: string): Host {
    if (this.hosts.has(name)) throw new SallyportError('caller', 'LAB_HOST_EXISTS', `there is a host ${name} already`);
    const host = new Host(name, namespaceName(this.owner, this.serial, name), this.processes);
    run(['ip', 'netns', 'add', host.namespace]);
    this.hosts.set(name, host);
    host.ip('link', 'set', 'lo', 'up');
    host.sysctl({
      // Any user may ping, as on every current distribution.
      'net.ipv4.ping_group_range': '0 2147483647',
      // Duplicate detection would keep an IPv6 address unusable for its first second.
      'net.ipv6.conf.default.accept_dad': 0,
    });
    return host;
  }

  /** Makes a host that forwards between its links. */
  router(name: string): Host {
    const router = this.host(name);
    router.sysctl({
      'net.ipv4.ip_forward': 1,
      'net.ipv6.conf.all.forwarding': 1,
      // Every packet without a route is answered, so that a program fails at once, and not now and then after its time-out.
      'net.ipv4.icmp_ratelimit': 0,
      'net.ipv6.icmp.ratelimit': 0,
    });
    return router;
  }

  /** Joins two hosts by a cable (a veth pair). Returns the device of each end. */
  link(left: LinkEnd, right: LinkEnd, options: LinkOptions = {}): [string, string] {
    const leftDevice = left.host.reserveInterface(left.device ?? `to-${right.host.name}`);
    const rightDevice = right.host.reserveInterface(right.device ?? `to-${left.host.name}`);
    const mtu = String(options.mtu ?? 1500);
    // Numbers of our own: where both ends have the same number, the kernel takes a second to notice that the carrier is there.
    const index = (): string => String(this.nextInterface++);
    const peer = ['peer', 'name', rightDevice, 'index', index(), 'mtu', mtu, 'netns', right.host.namespace];
    left.host.ip('link', 'add', 'name', leftDevice, 'index', index(), 'mtu', mtu, 'type', 'veth', ...peer);
    bringUp(left.host, leftDevice, left.addresses);
    bringUp(right.host, rightDevice, right.addresses);
    return [leftDevice, rightDevice];
  }

  /** Joins hosts by a switch (a bridge in a host of its own, without addresses). Returns the switch. */
  lan(name: string, ends: readonly LinkEnd[], options: LinkOptions = {}): Host {
    const fabric = this.host(name);
    fabric.ip('link', 'add', 'name', 'switch', 'type', 'bridge');
    fabric.ip('link', 'set', 'switch', 'up');
    for (const end of ends) {
      const [, port] = this.link({ device: `to-${name}`, ...end }, { host: fabric }, options);
      fabric.ip('link', 'set', port, 'master', 'switch');
    }
    return fabric;
  }

  /** Pulls the cable between two hosts; addresses and routes on it go too. */
  unlink(left: { host: Host; device: string }, right: { host: Host; device: string }): void {
    left.host.ip('link', 'delete', left.device);
    left.host.releaseInterface(left.device);
    right.host.releaseInterface(right.device);
  }

  /** Moves a device that a program made in `from` into the host at `end`, under a free name, which it returns. */
  adopt(from: Host, device: string, end: LinkEnd, options: LinkOptions = {}): string {
    const name = end.host.reserveInterface(end.device ?? device);
    from.ip('link', 'set', device, 'netns', end.host.namespace, 'name', name, 'mtu', String(options.mtu ?? 1500));
    bringUp(end.host, name, end.addresses);
    return name;
  }

  /** Ends every program and removes every host. Safe to call twice. */
  async destroy(): Promise<void> {
    const ending = [...this.processes].map((started) => started.exited);
    this.destroyNow();
    await Promise.all(ending);
  }

  private destroyNow(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    process.removeListener('exit', this.onExit);
    for (const signal of SIGNALS) process.removeListener(signal, this.onSignal);
    for (const started of this.processes) started.killGroup();
    for (const host of this.hosts.values()) removeNamespace(host.namespace);
    this.hosts.clear();
  }
}

/** The network namespaces of this machine. */
export function listNamespaces(): string[] {
  return run(['ip', 'netns', 'list'])
    .split('\n')
    .map((line) => line.split(' ')[0]!)
    .filter((name) => name !== '');
}

/** A default route for each gateway given; the family follows from its text. */
export function defaultRoutes(host: Host, gateways: readonly string[]): void {
  for (const gateway of gateways) {
    host.ip(gateway.includes(':') ? '-6' : '-4', 'route', 'add', 'default', 'via', gateway);
  }
}

function bringUp(host: Host, device: string, addresses: readonly string[] = []): void {
  for (const address of addresses) {
    host.ip('address', 'add', address, 'dev', device);
  }
  host.ip('link', 'set', device, 'up');
}

/** Ends what runs in a namespace of ours and deletes it; what is gone already is no error. */
function removeNamespace(name: string): void {
  try {
    // More than once: a process may have started another between the look and its end.
    for (let round = 0; round < KILL_ROUNDS; round++) {
      const pids = run(['ip', 'netns', 'pids', name]).split('\n').filter(Boolean);
      if (pids.length === 0) break;
      for (const pid of pids) endProcess(Number(pid));
    }
  } catch {
    // The namespace is gone already.
  }
  try {
    run(['ip', 'netns', 'delete', name]);
  } catch {
    // Likewise.
  }
  rmSync(`/etc/netns/${name}`, { recursive: true, force: true });
}

function endProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended first.
  }
}
