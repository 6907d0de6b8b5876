/**
 * Who may use the proxy's listeners: programs of this machine, those whose address is allowed, and, where users are configured,
 * only with a password (forwards cannot ask for one).
 */
import { IpAddress, Prefix, type SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';

const LOOPBACK_4 = Prefix.parse('127.0.0.0/8')!;
const LOOPBACK_6 = IpAddress.parse('::1')!;

export class ProxyAccess {
  readonly #allow: readonly Prefix[];
  readonly #users: ReadonlyMap<string, string>;

  /** @param users user → password; empty: nobody is asked. */
  constructor(allow: readonly Prefix[] = [], users: ReadonlyMap<string, string> = new Map()) {
    this.#allow = allow;
    this.#users = users;
  }

  /** Whether SOCKS and HTTP clients have to give a user and a password. */
  get asksPassword(): boolean {
    return this.#users.size > 0;
  }

  /** Whether a client with this address may use a listener. */
  admits(ip: IpAddress): boolean {
    return isLoopback(ip) || this.#allow.some((prefix) => prefix.contains(ip));
  }

  /** Compares every byte whatever the first difference is, so that time tells nothing of the password. */
  isUser(name: string, password: string): boolean {
    const wanted = this.#users.get(name) ?? '';
    let difference = wanted.length ^ password.length;
    for (let i = 0; i < password.length; i++)
      difference |= password.charCodeAt(i) ^ wanted.charCodeAt(i % (wanted.length || 1));
    return wanted !== '' && difference === 0;
  }

  /** @throws SallyportError PROXY_EXPOSED (caller) when other machines reach `listen` and none of them is allowed. */
  requireAllowed(kind: string, listen: SocketAddress): void {
    if (isLoopback(listen.ip) || this.#allow.length > 0) return;
    throw new SallyportError(
      'caller',
      'PROXY_EXPOSED',
      `other machines reach the ${kind} listener ${listen}, and "allow" does not say which of them may use it`,
      { hint: 'add --allow 192.168.1.0/24 (or who it is for), or listen on 127.0.0.1 or [::1]' },
    );
  }
}

export function isLoopback(ip: IpAddress): boolean {
  return LOOPBACK_4.contains(ip) || LOOPBACK_6.equals(ip);
}
