/**
 * Host names as they are compared: lower case, A-labels, no final dot, never an address.
 *
 *   Example.COM. → example.com        xn--bcher-kva.example stays        bücher.example, 192.0.2.1, a..b → undefined
 *
 * RFC 1035 §2.3.4 (lengths), RFC 1123 §2.1, RFC 6066 §3 (server names), RFC 5890 (A-labels). Underscores occur in practice
 * (service labels) and are let through.
 */
import { IpAddress } from '../../base/address.js';

/** Characters of a name as text, without its final dot (RFC 1035 §2.3.4: 255 octets on the wire). */
const NAME_MAX = 253;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/** The name in the form above; undefined when it is none. */
export function hostName(text: string): string | undefined {
  const name = (text.endsWith('.') ? text.slice(0, -1) : text).toLowerCase();
  if (name.length === 0 || name.length > NAME_MAX) return undefined;
  for (const label of name.split('.')) if (!LABEL.test(label)) return undefined;
  return IpAddress.parse(name) === undefined ? name : undefined;
}

/** Whether `name` is `suffix` or ends in `.suffix`; both in the form of `hostName`. */
export function isUnder(name: string, suffix: string): boolean {
  if (!name.endsWith(suffix)) return false;
  return name.length === suffix.length || name.charCodeAt(name.length - suffix.length - 1) === 0x2e;
}
