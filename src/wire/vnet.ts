/**
 * The header that a TUN device with offload puts before every packet: `struct virtio_net_hdr` in the host's byte order,
 * which is little-endian everywhere Sallyport runs.
 *
 *   0      1        2          4           6            8             10
 *   ┌──────┬────────┬──────────┬───────────┬────────────┬─────────────┬─ IP packet
 *   │flags │gso type│hdr length│gso size   │csum start  │csum offset  │
 *   └──────┴────────┴──────────┴───────────┴────────────┴─────────────┴─
 *
 * Virtual I/O Device (VIRTIO) 1.2 §5.1.6.
 */

export const VNET_HEADER = 10;

/** The checksum at csum start + csum offset holds the pseudo-header's sum; whoever segments completes it. */
export const VNET_NEEDS_CSUM = 1;
/** Whoever wrote the packet vouches for its checksum. */
export const VNET_DATA_VALID = 2;

export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
/** Fragmentation offload, not segmentation; never asked for here. */
export const GSO_UDP = 3;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;
/** Added to a TCP type: the first segment carries CWR. */
export const GSO_ECN = 0x80;

/** The fields of one header; reuse one object. */
export class VnetFields {
  flags = 0;
  gsoType = GSO_NONE;
  /** Bytes of all headers; a hint from the kernel, exact in what we write. */
  headerLength = 0;
  /** Payload bytes of each segment but the last. */
  gsoSize = 0;
  /** Where the checksum begins, from the start of the IP packet. */
  csumStart = 0;
  /** The checksum field, from `csumStart`. */
  csumOffset = 0;

  /** A whole packet with complete checksums. */
  clear(): void {
    this.flags = 0;
    this.gsoType = GSO_NONE;
    this.headerLength = 0;
    this.gsoSize = 0;
    this.csumStart = 0;
    this.csumOffset = 0;
  }
}

export function readVnet(bytes: Uint8Array, offset: number, out: VnetFields): void {
  out.flags = bytes[offset]!;
  out.gsoType = bytes[offset + 1]!;
  out.headerLength = bytes[offset + 2]! | (bytes[offset + 3]! << 8);
  out.gsoSize = bytes[offset + 4]! | (bytes[offset + 5]! << 8);
  out.csumStart = bytes[offset + 6]! | (bytes[offset + 7]! << 8);
  out.csumOffset = bytes[offset + 8]! | (bytes[offset + 9]! << 8);
}

export function writeVnet(bytes: Uint8Array, offset: number, fields: VnetFields): void {
  bytes[offset] = fields.flags;
  bytes[offset + 1] = fields.gsoType;
  bytes[offset + 2] = fields.headerLength;
  bytes[offset + 3] = fields.headerLength >>> 8;
  bytes[offset + 4] = fields.gsoSize;
  bytes[offset + 5] = fields.gsoSize >>> 8;
  bytes[offset + 6] = fields.csumStart;
  bytes[offset + 7] = fields.csumStart >>> 8;
  bytes[offset + 8] = fields.csumOffset;
  bytes[offset + 9] = fields.csumOffset >>> 8;
}
