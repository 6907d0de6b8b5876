/**
 * A host that moves to another uplink, as a laptop that changes networks: the cable to its home router is pulled, and the one to a
 * second router, with another public address, is plugged in.
 *
 *   user ──╳──(home)──┐
 *      └──(home-2)────┴── net
 */
import { defaultRoutes } from './lab.js';
import {
  firstOf,
  type HomeRouter,
  type HostAddresses,
  Nat,
  type StandardTopology,
  withoutIpv4,
  withPrefix,
} from './topology.js';

interface SecondUplink {
  readonly outside: HostAddresses;
  /** Behind a router that translates both families, or IPv4 only. */
  readonly translated: HostAddresses;
  readonly global: HostAddresses;
}

/** Public ones are of the benchmarking prefix (RFC 2544) and the documentation prefix (RFC 3849). */
const SECOND: Readonly<Record<'user' | 'service', SecondUplink>> = {
  user: {
    outside: { v4: '198.18.1.2', v6: '2001:db8:21::2' },
    translated: { v4: '192.168.3.2', v6: 'fd00:3::2' },
    global: { v4: '192.168.3.2', v6: '2001:db8:31::2' },
  },
  service: {
    outside: { v4: '198.18.2.2', v6: '2001:db8:22::2' },
    translated: { v4: '192.168.4.2', v6: 'fd00:4::2' },
    global: { v4: '192.168.4.2', v6: '2001:db8:32::2' },
  },
};

/** The second router, ready before anybody is plugged into it. */
export interface SpareUplink {
  /** Pulls the host's cable and plugs it in here. */
  plugIn(): void;
}

/** Builds a second home router for a host that sits behind a first one without a carrier's NAT. */
export function spareUplink(topology: StandardTopology, name: 'user' | 'service', home: HomeRouter): SpareUplink {
  const { lab, net } = topology;
  const host = topology[name];
  const { outside, translated, global } = SECOND[name];
  const inside = home.ipv6 === 'firewall' ? global : translated;
  const router = lab.router(`spare-${name}`);
  const far = `to-spare-${name}`;
  lab.link({ ...withPrefix(router, outside), device: 'to-net' }, { ...withPrefix(net, firstOf(outside)), device: far });
  defaultRoutes(router, [firstOf(outside).v4, firstOf(outside).v6]);
  new Nat(router, outside, home);
  const first = name === 'user' ? 'home' : 'office';
  return {
    plugIn: () => {
      lab.unlink({ host, device: `to-${first}` }, { host: lab.hosts.get(first)!, device: `to-${name}` });
      lab.link(withPrefix(host, inside), withPrefix(router, firstOf(inside)));
      if (home.ipv6 === 'firewall') {
        net.ip('-6', 'route', 'replace', `${firstOf(inside).v6.replace(/1$/, '')}/64`, 'via', outside.v6);
      }
      if (home.ipv4 === 'none') withoutIpv4(host, inside);
      else defaultRoutes(host, [firstOf(inside).v4]);
      if (home.ipv6 !== 'none') defaultRoutes(host, [firstOf(inside).v6]);
    },
  };
}
