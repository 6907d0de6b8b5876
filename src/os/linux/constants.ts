/**
 * Numbers of the Linux interface, by the header that defines them. The same on x64 and arm64 unless noted.
 */

// <errno.h> (those the interface itself does not name)
export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const EACCES = 13;
export const EBUSY = 16;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const ENXIO = 6;
export const ENODEV = 19;
export const ENOSYS = 38;
export const EPROTO = 71;
export const ENOPROTOOPT = 92;
export const EAFNOSUPPORT = 97;
export const EADDRINUSE = 98;
export const EADDRNOTAVAIL = 99;
export const ENETDOWN = 100;
export const ECONNABORTED = 103;
export const EHOSTDOWN = 112;
export const EINPROGRESS = 115;

// <sys/mman.h>
export const MADV_DONTNEED = 4;

// <fcntl.h>
export const O_RDWR = 2;
export const O_NONBLOCK = 0x800;
export const O_CLOEXEC = 0x80000;

// <sys/socket.h>
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const AF_PACKET = 17;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_ERROR = 4;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_LINGER = 13;
export const SO_BINDTODEVICE = 25;
export const SO_ATTACH_FILTER = 26;
export const SO_DETACH_FILTER = 27;
/** SO_TIMESTAMPNS_OLD: a `struct timespec` of two 64-bit numbers on 64-bit systems. */
export const SO_TIMESTAMPNS = 35;
export const SO_MARK = 36;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
export const MSG_CTRUNC = 8;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_ERRQUEUE = 0x2000;
export const MSG_NOSIGNAL = 0x4000;
export const SHUT_WR = 1;

// <netinet/in.h>, <linux/in.h>, <linux/in6.h>
export const IPPROTO_IP = 0;
export const IPPROTO_RAW = 255;
export const IP_TOS = 1;
export const IP_TTL = 2;
export const IP_HDRINCL = 3;
export const IP_RECVERR = 11;
export const IP_RECVTTL = 12;
export const IPPROTO_ICMP = 1;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_ICMPV6 = 58;
export const IP_PKTINFO = 8;
export const IP_MTU_DISCOVER = 10;
/** Sets DF and ignores the kernel's path-MTU cache: only the interface MTU limits (IPv6 alike). */
export const IP_PMTUDISC_PROBE = 3;
export const IPV6_UNICAST_HOPS = 16;
export const IPV6_MTU_DISCOVER = 23;
export const IPV6_RECVERR = 25;
export const IPV6_V6ONLY = 26;
export const IPV6_RECVPKTINFO = 49;
export const IPV6_PKTINFO = 50;
export const IPV6_HDRINCL = 36;
export const IPV6_RECVHOPLIMIT = 51;
export const IPV6_HOPLIMIT = 52;
export const IPV6_TCLASS = 67;
export const IPV6_DONTFRAG = 62;

// <linux/if_packet.h>, <linux/if_ether.h>
export const SOL_PACKET = 263;
export const PACKET_IGNORE_OUTGOING = 23;
/** `sll_pkttype` of what this host sends itself. */
export const PACKET_OUTGOING = 4;
export const ETH_P_ALL = 3;

// <linux/netlink.h>, <linux/rtnetlink.h>
export const NETLINK_ROUTE = 0;
export const RTMGRP_LINK = 0x001;
export const RTMGRP_IPV4_IFADDR = 0x010;
export const RTMGRP_IPV4_ROUTE = 0x040;
export const RTMGRP_IPV6_IFADDR = 0x100;
export const RTMGRP_IPV6_ROUTE = 0x400;

// <linux/errqueue.h>
export const SO_EE_ORIGIN_ICMP = 2;
export const SO_EE_ORIGIN_ICMP6 = 3;

// <linux/sockios.h>
export const SIOCGIFMTU = 0x8921;
export const SIOCOUTQNSD = 0x894b;

// <time.h>
export const CLOCK_REALTIME = 0;

// <linux/udp.h>
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;

// <linux/tcp.h>
export const TCP_NODELAY = 1;

// <poll.h>
export const POLLIN = 1;
export const POLLOUT = 4;

// <sys/epoll.h>
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EPOLLIN = 1;
export const EPOLLOUT = 4;
export const EPOLLERR = 8;
export const EPOLLHUP = 0x10;
export const EPOLL_CLOEXEC = 0x80000;

// <sys/eventfd.h>
export const EFD_NONBLOCK = 0x800;
export const EFD_CLOEXEC = 0x80000;

// <sched.h>
export const SCHED_OTHER = 0;
export const SCHED_BATCH = 3;

// <linux/if_tun.h>
export const IFF_TUN = 0x0001;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;
export const TUNSETIFF = 0x4004_54ca;
export const TUNSETOFFLOAD = 0x4004_54d0;
export const TUNSETVNETHDRSZ = 0x4004_54d8;
export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;
