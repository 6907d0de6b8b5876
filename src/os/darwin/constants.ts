/**
 * Numbers of the Darwin ABI (macOS on x64 and arm64, LP64), from Apple's public headers: <net/bpf.h>, <net/dlt.h>, <sys/socket.h>,
 * <netinet/in.h>, <netinet6/in6.h>, <sys/sockio.h>, <sys/errno.h>.
 *
 *   ioctl request   direction (void 0x2, out 0x4, in 0x8, both 0xc) << 28 | size << 16 | group << 8 | number
 */

const ioctl = (direction: 0x2 | 0x4 | 0x8 | 0xc, group: string, number: number, size: number): number =>
  ((direction << 28) | (size << 16) | (group.charCodeAt(0) << 8) | number) >>> 0;

/** `struct ifreq`: name[16] · a union of 16 bytes. */
export const IFREQ_BYTES = 32;
export const IFREQ_UNION = 16;
/** With its terminating zero. */
export const IFNAMSIZ = 16;

/** u_int: the size of one read; the kernel may make it smaller. To be set before the interface. */
export const BIOCSBLEN = ioctl(0xc, 'B', 102, 4);
/** u_int: the link type. */
export const BIOCGDLT = ioctl(0x4, 'B', 106, 4);
/** struct ifreq: the interface. */
export const BIOCSETIF = ioctl(0x8, 'B', 108, IFREQ_BYTES);
/** struct timeval (16 bytes): how long a read blocks. */
export const BIOCSRTIMEOUT = ioctl(0x8, 'B', 109, 16);
/** u_int: a read returns as soon as there is a packet. */
export const BIOCIMMEDIATE = ioctl(0x8, 'B', 112, 4);
/** u_int: whether packets that this host sends are seen. */
export const BIOCSSEESENT = ioctl(0x8, 'B', 119, 4);
/** struct bpf_program (16 bytes: count u32 · padding · pointer): a filter; what was captured before stays. */
export const BIOCSETFNR = ioctl(0x8, 'B', 126, 16);
/** Throws away what was captured. */
export const BIOCFLUSH = ioctl(0x2, 'B', 104, 0);
export const SIOCGIFMTU = ioctl(0xc, 'i', 51, IFREQ_BYTES);

/** Bytes of the link header by type: DLT_NULL (loopback, utun), DLT_EN10MB, DLT_RAW. */
export const LINK_HEADERS: ReadonlyMap<number, number> = new Map([
  [0, 4],
  [1, 14],
  [12, 0],
]);

export const AF_INET = 2;
export const AF_INET6 = 30;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const IPPROTO_IP = 0;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_RAW = 255;
export const IP_HDRINCL = 2;
export const IP_BOUND_IF = 25;
export const IPV6_UNICAST_HOPS = 4;
export const IPV6_TCLASS = 36;
export const IPV6_BOUND_IF = 125;

export const O_RDWR = 2;

export const EPERM = 1;
export const ENOENT = 2;
export const EACCES = 13;
export const EBUSY = 16;
export const EADDRINUSE = 48;
export const EADDRNOTAVAIL = 49;
