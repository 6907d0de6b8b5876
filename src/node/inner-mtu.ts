/**
 * The largest inner packet: what a 1500-byte path over a relay leaves of it.
 *
 *   1500 − IPv6 40 − UDP 8 − RELAYED 9 − QUIC short header 1 + 8 + 4 − tag 16 − DATAGRAM frame 9 = 1405 → 1400
 */
export const INNER_MTU = 1400;
