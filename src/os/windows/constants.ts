/** Numbers of the Windows ABI (x64), from Microsoft's public headers: <winsock2.h>, <ws2tcpip.h>, <ws2ipdef.h>, <winerror.h>, <winnt.h>. */

export const AF_INET = 2;
export const AF_INET6 = 23;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const IPPROTO_IP = 0;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;

export const SOL_SOCKET = 0xffff;
export const SO_ERROR = 0x1007;
export const SO_RCVBUF = 0x1002;
export const IP_HDRINCL = 2;
export const IP_TTL = 4;
export const IPV6_UNICAST_HOPS = 4;
/** BOOL: a connection attempt fails when an ICMP error about it comes. */
export const TCP_FAIL_CONNECT_ON_ICMP_ERROR = 18;
/** ICMP_ERROR_INFO: address (SOCKADDR_INET, 28 bytes) · protocol i32 · type u8 · code u8 · padding. */
export const TCP_ICMP_ERROR_INFO = 19;
export const ICMP_ERROR_INFO_BYTES = 36;
/** u_long: non-blocking. */
export const FIONBIO = 0x8004667e;

export const POLLRDNORM = 0x0100;
export const POLLWRNORM = 0x0010;

export const WSAEACCES = 10013;
export const WSAEWOULDBLOCK = 10035;
export const WSAEMSGSIZE = 10040;
export const WSAEADDRINUSE = 10048;
export const WSAEADDRNOTAVAIL = 10049;
export const WSAECONNREFUSED = 10061;
export const WSAEHOSTUNREACH = 10065;

export const ERROR_IO_PENDING = 997;
export const ERROR_SERVICE_ALREADY_RUNNING = 1056;

export const GENERIC_READ = 0x8000_0000;
export const GENERIC_WRITE = 0x4000_0000;
export const FILE_FLAG_OVERLAPPED = 0x4000_0000;
