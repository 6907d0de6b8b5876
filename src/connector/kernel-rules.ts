/**
 * The packet rules of `--mode kernel`, as scripts for nft: one table of our own, whose chains stay and whose maps follow the policy.
 *
 *   device ─► prerouting: virtual address → backend ─► forward or input: translated, or inside a real prefix; else dropped
 *          ◄─ output or forward: answers only ◄────────── postrouting: source → this host's address (masquerade)
 *
 * Which agent may use which service is judged per packet in kernel-path.ts; the rules make sure that what passed there reaches
 * nothing but services, that nobody else enters the tunnel through this host, nor one agent to another though a real prefix covers both, and that an agent takes no more of the kernel's
 * connection table than its share. Interfaces on which we switched forwarding on forward into the device only.
 */
import { IpAddress, Prefix } from '../base/address.js';
import { AGENT_SUBNET_V6, OVERLAY_RANGE_V4, type ServiceProtocol } from '../policy/document.js';

/** Flows that an agent may have at one time; the kernel holds some 300 bytes for each. */
export const KERNEL_FLOWS = 4096;
/** New flows of an agent per second, and at once: as with the engine (engine/flow-options.ts). */
const FLOWS_PER_SECOND = 500;
const FLOWS_BURST = 1000;
/** Agents that are counted at one time: as many as a connector has sessions (links.ts), rounded up. */
const AGENTS = 16_384;

/** Where packets of one service go. */
export interface KernelService {
  readonly protocols: readonly ServiceProtocol[];
  /** Its virtual addresses, none with a prefix. */
  readonly virtual: readonly string[];
  /** Real addresses, which are not translated. */
  readonly prefix: string | undefined;
  /** The backend's address once known, none with a prefix. */
  readonly address: string | undefined;
  /** The backend's port; 0 = the port the client asked for. */
  readonly port: number;
}

/** Everything the rules and routes follow. */
export interface KernelPlan {
  /** The network's /48; undefined without a policy. */
  readonly ula: string | undefined;
  readonly services: readonly KernelService[];
}

/** Interfaces that forward only because of us. */
export interface OpenedInterfaces {
  readonly v4: readonly string[];
  readonly v6: readonly string[];
}

export const tableOf = (device: string): string => `sallyport_${device.replace(/\W/g, '_')}`;

/** The prefixes of agents' overlay addresses, which are routed into the device. */
export function overlayPrefixes(ula: string | undefined): string[] {
  const v6 = ula === undefined ? undefined : Prefix.parse(ula)?.ip;
  if (v6 === undefined) return [`${OVERLAY_RANGE_V4}`];
  const subnet = new IpAddress(v6.w0, ((v6.w1 & 0xffff_0000) | AGENT_SUBNET_V6) >>> 0, 0, 0);
  return [`${OVERLAY_RANGE_V4}`, `${subnet}/64`];
}

/** Makes the table anew, whatever was there. */
export function tableScript(device: string): string {
  const perAgent = (family: 'ip' | 'ip6', n: 4 | 6): string => `
    update @rate${n} { ${family} saddr limit rate over ${FLOWS_PER_SECOND}/second burst ${FLOWS_BURST} packets } counter name flows_over_limit drop
    add @flows${n} { ${family} saddr ct count over ${KERNEL_FLOWS} } counter name flows_over_limit drop`;
  const sets = ([n, address]: readonly [4 | 6, string]): string => `
  map port${n} { type ${address} . inet_proto : ${address} . inet_service; }
  map host${n} { type ${address} . inet_proto : ${address}; }
  set real${n} { type ${address}; flags interval; auto-merge; }
  set agents${n} { type ${address}; flags interval; }
  set opened${n} { type ifname; }
  set flows${n} { type ${address}; size ${AGENTS}; flags dynamic; }
  set rate${n} { type ${address}; size ${AGENTS}; flags dynamic,timeout; timeout 10s; }`;
  return `table inet ${tableOf(device)}
delete table inet ${tableOf(device)}
table inet ${tableOf(device)} {
  counter refused { }
  counter flows_over_limit { }
${(
  [
    [4, 'ipv4_addr'],
    [6, 'ipv6_addr'],
  ] as const
)
  .map(sets)
  .join('')}
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname != "${device}" accept
    dnat ip to ip daddr . meta l4proto map @port4
    dnat ip to ip daddr . meta l4proto map @host4
    dnat ip6 to ip6 daddr . meta l4proto map @port6
    dnat ip6 to ip6 daddr . meta l4proto map @host6
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${device}" accept
    ip saddr @agents4 masquerade
    ip6 saddr @agents6 masquerade
  }
  chain entering {
    ct state established,related accept
    ct state invalid counter name refused drop${perAgent('ip', 4)}${perAgent('ip6', 6)}
    ct status dnat accept
    ip daddr @real4 accept
    ip6 daddr @real6 accept
    counter name refused drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "${device}" oifname "${device}" counter name refused drop
    iifname "${device}" goto entering
    oifname "${device}" ct state established,related accept
    oifname "${device}" counter name refused drop
    meta nfproto ipv4 iifname @opened4 drop
    meta nfproto ipv6 iifname @opened6 drop
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "${device}" goto entering
  }
  chain output {
    type filter hook output priority filter; policy accept;
    oifname != "${device}" accept
    ct state established,related accept
    counter name refused drop
  }
}
`;
}

/** Puts these services in the place of the present ones, at one stroke; flows that stand stay where they go. */
export function servicesScript(device: string, plan: KernelPlan, opened: OpenedInterfaces): string {
  const table = tableOf(device);
  const elements = new Map<string, string[]>();
  for (const name of ['port', 'host', 'real', 'agents', 'opened']) {
    for (const n of [4, 6]) elements.set(`${name}${n}`, []);
  }
  for (const prefix of overlayPrefixes(plan.ula)) elements.get(`agents${familyOf(prefix)}`)!.push(prefix);
  for (const n of [4, 6] as const)
    elements.set(
      `opened${n}`,
      opened[`v${n}`].map((name) => `"${name}"`),
    );
  for (const { protocols, virtual, prefix, address, port } of plan.services) {
    if (prefix !== undefined) elements.get(`real${familyOf(prefix)}`)!.push(prefix);
    if (address === undefined) continue;
    const family = familyOf(address);
    const source = virtual.find((ip) => familyOf(ip) === family);
    if (source === undefined) continue;
    for (const protocol of protocols) {
      const hasPort = port !== 0 && protocol !== 'icmp';
      const name = protocol === 'icmp' && family === 6 ? 'ipv6-icmp' : protocol;
      const to = hasPort ? `${address} . ${port}` : address;
      elements.get(`${hasPort ? 'port' : 'host'}${family}`)!.push(`${source} . ${name} : ${to}`);
    }
  }
  return [...elements]
    .map(([name, list]) => {
      const kind = name.startsWith('port') || name.startsWith('host') ? 'map' : 'set';
      const add = list.length === 0 ? '' : `add element inet ${table} ${name} { ${list.join(', ')} }\n`;
      return `flush ${kind} inet ${table} ${name}\n${add}`;
    })
    .join('');
}

const familyOf = (address: string): 4 | 6 => (address.includes(':') ? 6 : 4);
