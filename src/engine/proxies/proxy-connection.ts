/**
 * A connection to a proxy, from the dial until the proxy has let it through.
 *
 *   connecting ─► script: bytes out, exactly the bytes wanted in, … ─► result 0: the stream is the target's │ −errno: closed
 *
 * Never more is read than the script wants: what follows is the target's.
 */
import type { SocketAddress } from '../../base/address.js';
import {
  EAGAIN,
  ECONNRESET,
  type IoResult,
  READABLE,
  type Reactor,
  type Sockets,
  type TcpStream,
  type Watch,
  WRITABLE,
} from '../../os/io.js';

/** What is said before a connection stands. */
export interface ProxyScript {
  /** Said first. */
  readonly greeting: Uint8Array;
  /** How many more bytes it wants, at least 1. */
  readonly wanted: number;
  /**
   * Takes all of the wanted bytes.
   * @returns what to say next (perhaps nothing), or the result: 0, or a negated errno.
   */
  take(bytes: Uint8Array): Uint8Array | IoResult;
}

export class ProxyConnection {
  readonly #stream: TcpStream;
  readonly #script: ProxyScript;
  readonly #done: (result: IoResult, stream: TcpStream | undefined) => void;
  readonly #watch: Watch;
  #connected = false;
  #out: Uint8Array;
  #in = new Uint8Array(0);
  #got = 0;

  /** @throws what `sockets.connect` throws. */
  constructor(
    reactor: Reactor,
    sockets: Sockets,
    proxy: SocketAddress,
    script: ProxyScript,
    done: (result: IoResult, stream: TcpStream | undefined) => void,
  ) {
    this.#script = script;
    this.#done = done;
    this.#out = script.greeting;
    this.#stream = sockets.connect(proxy);
    this.#watch = reactor.watch(this.#stream.fd, WRITABLE, () => this.#onReady());
  }

  /** Gives up; `done` is not called. */
  cancel(): void {
    this.#watch.close();
    this.#stream.abort();
  }

  #onReady(): void {
    if (!this.#connected) {
      const result = this.#stream.connectResult();
      if (result !== 0) {
        this.#end(result);
        return;
      }
      this.#connected = true;
    }
    const result = this.#say() ?? this.#hear();
    if (result !== undefined) this.#end(result);
    else this.#watch.interest(this.#out.length > 0 ? WRITABLE : READABLE);
  }

  /** Undefined: what could be said is said. */
  #say(): IoResult | undefined {
    while (this.#out.length > 0) {
      const n = this.#stream.write(this.#out, 0, this.#out.length);
      if (n < 0) return n === -EAGAIN ? undefined : n;
      this.#out = this.#out.subarray(n);
    }
    return undefined;
  }

  #hear(): IoResult | undefined {
    while (this.#out.length === 0) {
      const { wanted } = this.#script;
      if (this.#in.length !== wanted) this.#in = new Uint8Array(wanted);
      const n = this.#stream.read(this.#in, this.#got, wanted - this.#got);
      if (n <= 0) return n === 0 ? -ECONNRESET : n === -EAGAIN ? undefined : n;
      this.#got += n;
      if (this.#got < wanted) continue;
      this.#got = 0;
      const next = this.#script.take(this.#in);
      if (typeof next === 'number') return next;
      this.#out = next;
      const failed = this.#say();
      if (failed !== undefined) return failed;
    }
    return undefined;
  }

  #end(result: IoResult): void {
    this.#watch.close();
    if (result !== 0) this.#stream.abort();
    this.#done(result, result === 0 ? this.#stream : undefined);
  }
}
