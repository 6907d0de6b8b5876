/**
 * A chain of routers with a target at its end, in both families: host 0 traces, host `length` is the target.
 *
 *   host 0 ─ 10.9.1.1 ── 10.9.1.2 ─ host 1 ─ 10.9.2.1 ── 10.9.2.2 ─ host 2 … ─ 10.9.n.2 ─ host n        fd09:n::1, fd09:n::2 likewise
 */
import type { Host } from '../../lab/host.js';
import { defaultRoutes, type Lab } from '../../lab/lab.js';

export interface ChainOptions {
  /** MTU of link n (from host n − 1 to host n), where it is not 1500. */
  readonly mtu?: Readonly<Record<number, number>>;
}

/** Address of host `n` on the side of the tracer. */
export const near = (n: number, family: 4 | 6): string => (family === 4 ? `10.9.${n}.2` : `fd09:${n}::2`);

export function chain(lab: Lab, length: number, options: ChainOptions = {}): Host[] {
  const hosts = Array.from({ length: length + 1 }, (_, n) => lab.router(`h${n}`));
  for (let n = 1; n <= length; n++) {
    const mtu = options.mtu?.[n];
    lab.link(
      { host: hosts[n - 1]!, device: 'right', addresses: [`10.9.${n}.1/24`, `fd09:${n}::1/64`] },
      { host: hosts[n]!, device: 'left', addresses: [`10.9.${n}.2/24`, `fd09:${n}::2/64`] },
      mtu === undefined ? {} : { mtu },
    );
  }
  prepare(hosts);
  return hosts;
}

/** Routes of a chain whose links and addresses are there: forward by default, back link by link. Errors are not limited. */
export function prepare(hosts: readonly Host[]): void {
  // Beside its limit per peer the kernel has one for all together, of 50 at once.
  for (const host of hosts) host.sysctl({ 'net.ipv4.icmp_ratemask': 0, 'net.ipv6.icmp.ratemask': 0 });
  for (const [n, host] of hosts.entries()) {
    if (n < hosts.length - 1) defaultRoutes(host, [near(n + 1, 4), near(n + 1, 6)]);
    for (let link = 1; link < n; link++) {
      host.ip('route', 'add', `10.9.${link}.0/24`, 'via', `10.9.${n}.1`);
      host.ip('-6', 'route', 'add', `fd09:${link}::/64`, 'via', `fd09:${n}::1`);
    }
  }
}
