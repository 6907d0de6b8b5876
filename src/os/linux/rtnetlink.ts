/**
 * What the kernel says of changes to the host's network (rtnetlink(7)), as far as it matters here: that addresses or unicast routes may
 * be others now. What they are is read anew where it is wanted; a message that was lost thus costs nothing but the next one.
 *
 *   datagram    nlmsghdr · payload · padding to 4 bytes · nlmsghdr …            (numbers in host byte order: little-endian)
 *   nlmsghdr    length u32 (with this header) · type u16 · flags u16 · sequence u32 · port u32
 *   RTM_…LINK   any: interfaces change seldom
 *   RTM_…ADDR   family u8 · prefix length u8 · flags u8 · scope u8 · index u32
 *   RTM_…ROUTE  family u8 · destination bits u8 · source bits u8 · TOS u8 · table u8 · protocol u8 · scope u8 · type u8 · flags u32
 */

const HEADER = 16;
/** Payload bytes that are looked at, by kind. */
const ADDRESS_LENGTH = 8;
const ROUTE_LENGTH = 12;

/** <linux/netlink.h>: the receiver has missed something. */
const NLMSG_OVERRUN = 4;
/** <linux/rtnetlink.h>. */
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
/** A copy of a route, made for one destination. */
const RTM_F_CLONED = 0x200;
/** Of the types of routes: to somewhere else; and from here on those that refuse (blackhole, unreachable, prohibit, throw). */
const RTN_UNICAST = 1;
const RTN_BLACKHOLE = 6;
const RTN_THROW = 9;
/** <linux/if_addr.h>: an IPv6 address that may not be used yet; it is told again when it may. */
const IFA_F_TENTATIVE = 0x40;

/** `true`: addresses or routes may be others. Bytes that are no messages are taken for a sign of one. */
export function tellsOfChange(bytes: Uint8Array, length: number): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  let at = 0;
  while (at < length) {
    const size = length - at < HEADER ? 0 : view.getUint32(at, true);
    if (size < HEADER || size > length - at) return true;
    if (isChange(view, view.getUint16(at + 4, true), at + HEADER, size - HEADER)) return true;
    at += (size + 3) & ~3;
  }
  return false;
}

function isChange(view: DataView, type: number, at: number, length: number): boolean {
  switch (type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return true;
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return length < ADDRESS_LENGTH || (view.getUint8(at + 2) & IFA_F_TENTATIVE) === 0;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return length < ROUTE_LENGTH || isRoute(view.getUint8(at + 7), view.getUint32(at + 8, true));
    default:
      return type === NLMSG_OVERRUN;
  }
}

function isRoute(type: number, flags: number): boolean {
  return (flags & RTM_F_CLONED) === 0 && (type === RTN_UNICAST || (type >= RTN_BLACKHOLE && type <= RTN_THROW));
}
