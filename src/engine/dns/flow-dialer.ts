/** The resolver's sockets from a dialer of the engine: queries leave the way that flows do. */
import { ADDRESS_WORDS, IpAddress, SocketAddress } from '../../base/address.js';
import { BROKEN, EAGAIN, READABLE, type Reactor, type TcpStream, type Watch, WRITABLE } from '../../os/io.js';
import type { Dialer } from '../dialer.js';
import type { DnsDialer, DnsStream, DnsStreamHandlers, DnsUdp, DnsUdpHandlers } from './transport.js';

const READ_SIZE = 16_384;
/** Bytes that wait for one connection; more than every question that may be out. */
const WRITE_MAX = 1024 * 1024;

const scratch = new Uint8Array(READ_SIZE);

export class FlowDialer implements DnsDialer {
  readonly #reactor: Reactor;
  readonly #dialer: Dialer;
  /** Tells the flows of this dialer apart for dialers that care who sends. */
  #port = 0;

  constructor(reactor: Reactor, dialer: Dialer) {
    this.#reactor = reactor;
    this.#dialer = dialer;
  }

  udp(to: SocketAddress, handlers: DnsUdpHandlers): DnsUdp | undefined {
    const words = new Uint32Array(2 * ADDRESS_WORDS);
    this.#port = (this.#port + 1) & 0xffff;
    const nobody = to.ip.isV4 ? IpAddress.v4(0) : new IpAddress(0, 0, 0, 0);
    new SocketAddress(nobody, this.#port).write(words, 0);
    to.write(words, 1);
    try {
      const outlet = this.#dialer.udp(words, to);
      if (outlet === undefined) return undefined;
      const watch = this.#reactor.watch(outlet.fd, READABLE, () => {
        const n = outlet.receive((bytes, offset, length) =>
          handlers.onDatagram(SocketAddress.read(outlet.source, 0), bytes, offset, length),
        );
        if (n < 0 && !isClosed) handlers.onError();
      });
      let isClosed = false;
      outlet.onOver = () => {
        if (!isClosed) handlers.onError();
      };
      return {
        send: (bytes) => void outlet.write(words, bytes, 0, bytes.length),
        close: () => {
          if (isClosed) return;
          isClosed = true;
          watch.close();
          outlet.close();
        },
      };
    } catch {
      return undefined;
    }
  }

  tcp(to: SocketAddress, handlers: DnsStreamHandlers): DnsStream | undefined {
    try {
      return new FlowStream(this.#reactor, this.#dialer, to, handlers);
    } catch {
      return undefined;
    }
  }
}

class FlowStream implements DnsStream {
  readonly #reactor: Reactor;
  readonly #handlers: DnsStreamHandlers;
  #giveUp: () => void;
  #stream: TcpStream | undefined;
  #watch: Watch | undefined;
  #waiting: Uint8Array = new Uint8Array(0);
  #over = false;

  constructor(reactor: Reactor, dialer: Dialer, to: SocketAddress, handlers: DnsStreamHandlers) {
    this.#reactor = reactor;
    this.#handlers = handlers;
    this.#giveUp = dialer.tcp(to, (result, stream) => {
      this.#giveUp = () => {};
      if (result === 0 && stream !== undefined) this.#connected(stream);
      else this.#end();
    });
  }

  write(bytes: Uint8Array): void {
    const joined = new Uint8Array(this.#waiting.length + bytes.length);
    joined.set(this.#waiting);
    joined.set(bytes, this.#waiting.length);
    this.#waiting = joined;
    if (joined.length > WRITE_MAX) this.#end();
    else this.#flush();
  }

  close(): void {
    this.#over = true;
    this.#giveUp();
    this.#watch?.close();
    this.#stream?.close();
    this.#stream = undefined;
  }

  #connected(stream: TcpStream): void {
    this.#stream = stream;
    this.#watch = this.#reactor.watch(stream.fd, READABLE, (ready) => {
      if ((ready & WRITABLE) !== 0) this.#flush();
      if ((ready & (READABLE | BROKEN)) !== 0) this.#read();
    });
    this.#handlers.onOpen();
  }

  #read(): void {
    while (this.#stream !== undefined) {
      const n = this.#stream.read(scratch, 0, READ_SIZE);
      if (n === -EAGAIN) return;
      if (n <= 0) this.#end();
      else this.#handlers.onData(scratch, 0, n);
    }
  }

  #flush(): void {
    while (this.#stream !== undefined && this.#waiting.length > 0) {
      const n = this.#stream.write(this.#waiting, 0, this.#waiting.length);
      if (n === -EAGAIN) break;
      if (n < 0) this.#end();
      else this.#waiting = this.#waiting.slice(n);
    }
    this.#watch?.interest(this.#waiting.length > 0 ? READABLE | WRITABLE : READABLE);
  }

  #end(): void {
    if (this.#over) return;
    this.close();
    this.#handlers.onClosed();
  }
}
