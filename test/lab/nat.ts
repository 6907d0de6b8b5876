/**
 * Network address translators of the laboratory, by nftables: what they map and what they let in, as RFC 4787 names it.
 *
 *   kind       mapping                filtering               familiar name
 *   open       endpoint-independent   endpoint-independent    full cone
 *   moderate   endpoint-independent   address- or port-dep.   restricted, port-restricted
 *   strict     port-dependent         port-dependent          symmetric
 *
 *   inside ─► learn (who has which port, whom it asked) ─► srcnat ─► outside
 *   inside ◄─ dnat by what was learnt ◄─ prerouting ◄─ outside        nothing learnt: dropped in INPUT
 *
 * Linux has no endpoint-independent mapping of its own: `masquerade` keeps the source port while it is free, so mapping is
 * endpoint-independent for as long as no two inside hosts use one port towards one destination. What comes from outside unasked
 * for reaches the router itself; if INPUT took it, conntrack would confirm a flow there, and the inside host's later packet to
 * that peer would have to get another port. So INPUT drops it, which leaves nothing behind.
 *
 * Not modelled: mappings that move in mid-life, port blocks and quotas of carriers, several public addresses.
 */
import { SallyportError } from '../../src/base/error.js';
import { type Duration, Seconds, toSeconds } from '../../src/base/time.js';
import { type Host, run } from './host.js';

export type NatKind = 'open' | 'moderate' | 'strict';

/** What IPv6 meets at a home router. */
export type NatIpv6 =
  /** The same translation as IPv4 (NAT66). */
  | 'translated'
  /** Real addresses behind a firewall that lets nothing new in. */
  | 'firewall'
  /** No IPv6 inside. */
  | 'none';

export interface NatSettings {
  readonly kind: NatKind;
  /** Of a moderate one; default `port`. */
  readonly filtering?: 'address' | 'port';
  /** Inside hosts reach each other by their public addresses. Default false; never at a strict one. */
  readonly hairpin?: boolean;
  /** False: UDP does not pass at all. Default true. */
  readonly udp?: boolean;
  /** How long an unused UDP mapping lives, in whole seconds; default 30 s, and 120 s once an answer came. */
  readonly lifetime?: Duration;
  /** Default `translated`. */
  readonly ipv6?: NatIpv6;
  /** `none`: no IPv4 inside. Default: translated. */
  readonly ipv4?: 'none';
}

export interface NatDevices {
  /** The device towards the world. */
  readonly outside: string;
  /** The router's addresses there. */
  readonly addresses: { readonly v4: string; readonly v6: string };
}

/** Entries of the maps that stand for mappings live this long, unless said otherwise. */
const DEFAULT_LIFETIME = Seconds(120);

/** Makes a NAT of `router`, or another one than it was; live mappings stay until they expire or `restartNat`. */
export function setNat(router: Host, devices: NatDevices, settings: NatSettings): void {
  if (settings.lifetime !== undefined) {
    const seconds = toSeconds(settings.lifetime);
    if (!Number.isInteger(seconds)) throw new SallyportError('caller', 'LAB_NAT', 'a lifetime is in whole seconds');
    router.sysctl({
      'net.netfilter.nf_conntrack_udp_timeout': seconds,
      'net.netfilter.nf_conntrack_udp_timeout_stream': seconds,
    });
  }
  const ipv6 = settings.ipv6 ?? 'translated';
  router.nft(
    [
      remove('lab_nat_guard', 'inet'),
      remove('lab_nat', 'ip'),
      remove('lab_nat', 'ip6'),
      guard(devices.outside, settings),
      translator('ip', devices, settings),
      ipv6 === 'translated' ? translator('ip6', devices, settings) : '',
    ].join('\n'),
  );
}

/** Every mapping is gone at once, as after a restart of the router; what the rules have learnt too. */
export function restartNat(router: Host, devices: NatDevices, settings: NatSettings): void {
  setNat(router, devices, settings);
  run(['ip', 'netns', 'exec', router.namespace, 'conntrack', '-F']);
}

function remove(table: string, family: string): string {
  return `table ${family} ${table}\ndelete table ${family} ${table}`;
}

/** What passes the router and what reaches the router itself, both families. */
function guard(outside: string, settings: NatSettings): string {
  const udp = settings.udp === false ? 'meta l4proto udp drop' : '';
  return `
    table inet lab_nat_guard {
      chain forward {
        type filter hook forward priority filter; policy accept;
        ${udp}
        iifname "${outside}" ct state new ct status dnat accept
        iifname "${outside}" ct state new drop
      }
      chain input {
        type filter hook input priority filter; policy accept;
        iifname "${outside}" ct state new meta l4proto udp drop
      }
    }`;
}

function translator(family: 'ip' | 'ip6', devices: NatDevices, settings: NatSettings): string {
  const { outside } = devices;
  const { kind } = settings;
  const isHairpin = settings.hairpin === true && kind !== 'strict';
  const type = family === 'ip' ? 'ipv4_addr' : 'ipv6_addr';
  const address = family === 'ip' ? devices.addresses.v4 : devices.addresses.v6;
  const life = `flags dynamic,timeout\n timeout ${toSeconds(settings.lifetime ?? DEFAULT_LIFETIME)}s`;
  const learn = `oifname "${outside}" meta l4proto udp update @inside { udp sport : ${family} saddr } update @asked { udp sport . ${family} daddr }`;
  const inward = 'dnat to udp dport map @inside';
  const byFiltering = {
    open: `iifname "${outside}" meta l4proto udp ${inward}`,
    address: `iifname "${outside}" udp dport . ${family} saddr @asked ${inward}`,
    port: '',
  };
  return `
    table ${family} lab_nat {
      map inside {
        type inet_service : ${type}
        ${life}
      }
      set asked {
        type inet_service . ${type}
        ${life}
      }
      chain learn {
        type filter hook postrouting priority 99
        ${kind === 'strict' ? '' : learn}
      }
      chain inward {
        type nat hook prerouting priority dstnat
        ${kind === 'strict' ? '' : byFiltering[kind === 'open' ? 'open' : (settings.filtering ?? 'port')]}
        ${isHairpin ? `iifname != "${outside}" ${family} daddr ${address} meta l4proto udp ${inward}` : ''}
      }
      chain hairpin {
        type filter hook prerouting priority mangle
        ${isHairpin ? '' : `iifname != "${outside}" ${family} daddr ${address} meta l4proto udp drop`}
      }
      chain outward {
        type nat hook postrouting priority srcnat
        ${isHairpin ? `oifname != "${outside}" ct status dnat iifname != "${outside}" snat to ${address}` : ''}
        oifname "${outside}" masquerade ${kind === 'strict' ? 'fully-random' : ''}
      }
    }`;
}
