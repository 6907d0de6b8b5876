/**
 * Numbers that both IP versions share.
 *
 * IANA "Assigned Internet Protocol Numbers"; RFC 791, RFC 8200.
 */

export const PROTO_HOP_BY_HOP = 0;
export const PROTO_ICMP = 1;
export const PROTO_TCP = 6;
export const PROTO_UDP = 17;
export const PROTO_ROUTING = 43;
export const PROTO_FRAGMENT = 44;
export const PROTO_AH = 51;
export const PROTO_ICMPV6 = 58;
export const PROTO_DESTINATION_OPTIONS = 60;
export const PROTO_MOBILITY = 135;
export const PROTO_HIP = 139;
export const PROTO_SHIM6 = 140;

export const IPV4_HEADER = 20;
export const IPV6_HEADER = 40;
export const IPV6_FRAGMENT_HEADER = 8;
export const TCP_HEADER = 20;
export const TCP_HEADER_MAX = 60;
export const UDP_HEADER = 8;
export const ICMP_HEADER = 8;

/** Most bytes of an IPv4 packet, and of what follows an IPv6 header (no jumbograms). */
export const IP_LENGTH_MAX = 65_535;
/** Every IPv6 link carries this (RFC 8200 §5). */
export const IPV6_MTU_MIN = 1280;
/** Every IPv4 host takes this (RFC 791 §3.1). */
export const IPV4_REASSEMBLY_MIN = 576;
