/**
 * Packet filters of laboratory hosts, by nftables; address translation is in nat.ts. Each function owns one table and replaces what it set before.
 *
 *   input:  established ─► accept;  from an allowed address ─► accept;  IPv6 neighbour discovery ─► accept;  else drop
 *
 * RFC 4890 (ICMPv6 that must pass).
 */
import type { Host } from './host.js';

const NEIGHBOUR_DISCOVERY = '{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert }';

/** From now on only `sources` (addresses or prefixes) may open connections to this host; answers to its own always pass. */
export function acceptOnlyFrom(host: Host, sources: readonly string[]): void {
  const v4 = sources.filter((source) => !source.includes(':'));
  const v6 = sources.filter((source) => source.includes(':'));
  host.nft(`
    table inet lab_filter
    delete table inet lab_filter
    table inet lab_filter {
      chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        ct state established,related accept
        icmpv6 type ${NEIGHBOUR_DISCOVERY} accept
        ${v4.length === 0 ? '' : `ip saddr { ${v4.join(', ')} } accept`}
        ${v6.length === 0 ? '' : `ip6 saddr { ${v6.join(', ')} } accept`}
      }
    }`);
}

/** Nobody may open a connection to this host: how a connector's host looks from outside. */
export function closeInbound(host: Host): void {
  acceptOnlyFrom(host, []);
}
