/**
 * The proxy's listeners as they are wanted and as they stand; one set takes the place of another without closing what both have.
 *
 *   wanted ──same protocol and address──► kept, with its new purpose          only before ──► closed, clients stay
 *          ──nothing there──────────────► opened; one that fails undoes all
 */
import type { SocketAddress } from '../../base/address.js';
import type { ProxyAccess } from './access.js';
import { isLoopback } from './access.js';
import type { Forward } from './forward.js';
import type { Target } from './negotiation.js';

export type ListenerKind = 'socks' | 'http' | 'forward' | 'udp-forward';

/** Where to listen; port 0 = any free one. */
export interface ProxyListeners {
  readonly socks?: SocketAddress;
  readonly http?: SocketAddress;
  readonly forwards?: readonly Forward[];
}

/** A listener as it stands. */
export interface OpenListener {
  readonly kind: ListenerKind;
  readonly local: SocketAddress;
  /** Whether other machines may reach it. */
  readonly isExposed: boolean;
}

/** What a listener is for. */
export interface Purpose {
  readonly kind: ListenerKind;
  /** Of a forward. */
  readonly target?: Target;
}

export interface ListenerSocket {
  readonly local: SocketAddress;
  close(): void;
  /** It serves this from now on; only between kinds of the same protocol. */
  retarget(purpose: Purpose): void;
}

interface Wanted {
  readonly purpose: Purpose;
  readonly listen: SocketAddress;
}

interface Standing extends Wanted {
  readonly socket: ListenerSocket;
}

export class ListenerSet {
  readonly #open: (purpose: Purpose, listen: SocketAddress) => ListenerSocket;
  #standing: Standing[] = [];

  constructor(open: (purpose: Purpose, listen: SocketAddress) => ListenerSocket) {
    this.#open = open;
  }

  /** In the order: SOCKS, HTTP, forwards as given. */
  get listeners(): readonly OpenListener[] {
    return this.#standing.map(({ purpose, socket }) => ({
      kind: purpose.kind,
      local: socket.local,
      isExposed: !isLoopback(socket.local.ip),
    }));
  }

  /** @throws SallyportError PROXY_EXPOSED (caller), those of the sockets (environment); then everything stays as it was. */
  replace(listeners: ProxyListeners, access: ProxyAccess): void {
    const wanted = list(listeners);
    for (const { purpose, listen } of wanted) access.requireAllowed(purpose.kind, listen);
    const before = [...this.#standing];
    const opened: Standing[] = [];
    const next: Standing[] = [];
    try {
      for (const one of wanted) {
        const at = before.findIndex((old) => isSamePlace(old, one));
        const kept = at < 0 ? undefined : before.splice(at, 1)[0]!;
        const standing = { ...one, socket: kept?.socket ?? this.#open(one.purpose, one.listen) };
        if (kept === undefined) opened.push(standing);
        next.push(standing);
      }
    } catch (error) {
      for (const { socket } of opened) socket.close();
      throw error;
    }
    for (const { socket } of before) socket.close();
    for (const { socket, purpose } of next) socket.retarget(purpose);
    this.#standing = next;
  }

  close(): void {
    for (const { socket } of this.#standing.splice(0)) socket.close();
  }
}

function list({ socks, http, forwards = [] }: ProxyListeners): Wanted[] {
  const wanted: Wanted[] = [];
  if (socks !== undefined) wanted.push({ purpose: { kind: 'socks' }, listen: socks });
  if (http !== undefined) wanted.push({ purpose: { kind: 'http' }, listen: http });
  for (const { protocol, listen, target } of forwards) {
    wanted.push({ purpose: { kind: protocol === 'udp' ? 'udp-forward' : 'forward', target }, listen });
  }
  return wanted;
}

function isSamePlace(a: Wanted, b: Wanted): boolean {
  const isUdp = (one: Wanted): boolean => one.purpose.kind === 'udp-forward';
  return isUdp(a) === isUdp(b) && a.listen.equals(b.listen);
}
