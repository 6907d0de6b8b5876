/**
 * What the kernel driver of DataDog's agent is called and how its structures look. *Unverified*: none of it is documented by Microsoft,
 * the driver was never at hand, and another version of it may differ. Numbers and layouts follow the header that its clients are built
 * with; the device's and the service's names are those its clients use.
 *
 *   filter (160 bytes, u64 each but addresses)   version · size · layer · family · local address · remote address · local port ·
 *                                                remote port · protocol · direction · interface · discard
 *   address (40 bytes)                           family u64 · IPv4[4] · padding[4] · IPv6[16] · prefix length u64
 *   packet header (72 bytes, u64 each)           version · size · skipped · filter · direction · packet size · family · process · time
 */

export const SERVICE = 'ddnpm';
/** The volume of the device whose handles see packets at the transport layer. */
export const DEVICE_PATH = '\\\\.\\ddnpm\\transporthandle';
/** 0xDDFD in the upper half, the version of the interface in the lower. */
export const SIGNATURE = 0xddfd_0000_0018n;
/** CTL_CODE(FILE_DEVICE_NETWORK, 0x803, METHOD_BUFFERED, FILE_ANY_ACCESS): a filter in, its number (u64) out. */
export const SET_DATA_FILTER = 0x0012_200c;

export const FILTER_BYTES = 160;
export const LAYER_TRANSPORT = 1n;
export const DIRECTION_INBOUND = 0n;
/** Where fields of a filter are. */
export const FILTER = {
  version: 0,
  size: 8,
  layer: 16,
  family: 24,
  local: 32,
  remote: 72,
  localPort: 112,
  remotePort: 120,
  protocol: 128,
  direction: 136,
  discard: 152,
} as const;
/** Where fields of an address in a filter are. */
export const FILTER_ADDRESS = { family: 0, v4: 8, v6: 16, length: 32 } as const;

/** Bytes of a header, where it does not say so itself. */
export const PACKET_HEADER_BYTES = 72;
export const PACKET_HEADER = { size: 8, packetSize: 40 } as const;

/** Reads that wait at the driver at one time, and the bytes of a packet that each has room for, behind the driver's header. */
export const READ_BUFFERS = 800;
export const READ_BYTES = 150;
