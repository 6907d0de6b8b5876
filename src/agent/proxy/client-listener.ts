/** A listening socket of the proxy: accepts in bounded portions and hands clients on. */
import type { SocketAddress } from '../../base/address.js';
import { later, Millis } from '../../base/time.js';
import { READABLE, type Reactor, type Sockets, type TcpListener, type TcpStream, type Watch } from '../../os/io.js';

/** Connections accepted from one listener before others get their turn. */
const ACCEPTS_PER_TURN = 64;
/**
 * A listener that is readable but gives no connection is left alone for this long: out of descriptors it stays readable, and
 * the loop would do nothing else.
 */
const ACCEPT_PAUSE = Millis(100);

export interface ClientListenerOwner {
  onClient(stream: TcpStream, peer: SocketAddress): void;
  onPause(): void;
}

export class ClientListener {
  readonly #reactor: Reactor;
  readonly #socket: TcpListener;
  readonly #watch: Watch;
  readonly #owner: ClientListenerOwner;
  #cancelPause: (() => void) | undefined;

  /** @throws SallyportError of the sockets (environment). */
  constructor(reactor: Reactor, sockets: Pick<Sockets, 'listen'>, listen: SocketAddress, owner: ClientListenerOwner) {
    this.#reactor = reactor;
    this.#owner = owner;
    this.#socket = sockets.listen(listen);
    this.#watch = reactor.watch(this.#socket.fd, READABLE, () => this.#accept());
  }

  get local(): SocketAddress {
    return this.#socket.local;
  }

  /** Clients stay. */
  close(): void {
    this.#cancelPause?.();
    this.#watch.close();
    this.#socket.close();
  }

  #accept(): void {
    for (let accepted = 0; accepted < ACCEPTS_PER_TURN; accepted++) {
      const next = this.#socket.accept();
      if (next === undefined) {
        if (accepted === 0) this.#pause();
        return;
      }
      this.#owner.onClient(next.stream, next.peer);
    }
  }

  #pause(): void {
    this.#owner.onPause();
    this.#watch.interest(0);
    this.#cancelPause = this.#reactor.at(later(this.#reactor.now(), ACCEPT_PAUSE), () =>
      this.#watch.interest(READABLE),
    );
  }
}
