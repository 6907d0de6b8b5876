/**
 * What a program says first in a TCP flow, which waits in the stack until it is known whether it may leave: a rule may refuse what it
 * names. It stands in front of the bridge; what the server says passes at any time.
 *
 *   bytes ─► shown to the tap ─┬─ they change nothing ─► bridge, within the same call
 *                              └─ wait ─┬─ judged ─► bridge, or a reset: the server has seen nothing
 *                                       ├─ 5 s, 12 KiB, end of stream without a whole name ─► bridge; judged when the name comes
 *                                       └─ the flow ends ─► gone
 *
 * They take no memory beyond the stack's own buffers and their bounds.
 */
import { later, Seconds } from '../base/time.js';
import type { TcpConnection } from '../netstack/tcp/connection.js';
import type { CloseReason, TcpHandlers } from '../netstack/types.js';
import type { FlowCounter, Hold } from './flow-options.js';
import type { TcpBridge } from './tcp-bridge.js';
import type { FlowHost } from './tcp-flows.js';

/** As long as a name is looked for: clients send the rest of a ClientHello at once, or again after a loss. */
const HOLD_TIME = Seconds(5);
/** Less than the smallest window (16 KiB), so that it is reached; a ClientHello with a large key share takes two. */
const BYTES_MAX = 12 * 1024;

export class FirstBytes implements TcpHandlers {
  readonly #host: FlowHost;
  readonly #connection: TcpConnection;
  readonly #bridge: TcpBridge;
  #hold: () => Hold;
  /** Set while bytes wait. */
  #stopTimer: (() => void) | undefined;
  #isOver = false;

  /** Takes the connection over from its bridge until it is clear what becomes of the first bytes. */
  constructor(host: FlowHost, connection: TcpConnection, bridge: TcpBridge, hold: () => Hold) {
    this.#host = host;
    this.#connection = connection;
    this.#bridge = bridge;
    this.#hold = hold;
    connection.setHandlers(this);
  }

  onData(bytes: Uint8Array, offset: number, length: number): number {
    if (!this.#isOver) {
      this.#bridge.peek(bytes, offset, length);
      const hold = this.#hold();
      const isHopeless = length >= BYTES_MAX || this.#connection.peerClosed;
      if (hold === 'judging' || (hold === 'watching' && !isHopeless)) {
        this.#wait();
        return 0;
      }
      this.#end(hold === 'none' ? 'tcp_holds_decided' : 'tcp_holds_gave_up');
    }
    // What follows goes there directly.
    this.#connection.setHandlers(this.#bridge);
    return this.#bridge.onData(bytes, offset, length);
  }

  onMore(): void {
    this.#connection.pull();
  }

  onPeerClosed(): void {
    this.#bridge.onPeerClosed();
  }

  onWritable(): void {
    this.#bridge.onWritable();
  }

  onClosed(reason: CloseReason): void {
    this.#end('tcp_holds_ended');
    this.#bridge.onClosed(reason);
  }

  /** The flow goes on as far as the rules can tell now; `hold` says whether that may change. */
  judged(hold: () => Hold): void {
    this.#hold = hold;
    this.#connection.pull();
  }

  /** The flow is refused: its owner ends it. */
  refused(): void {
    this.#end('tcp_holds_refused');
  }

  #wait(): void {
    const { reactor, onActivity } = this.#host;
    this.#stopTimer ??= reactor.at(later(reactor.now(), HOLD_TIME), () => {
      this.#end('tcp_holds_gave_up');
      this.#connection.pull();
      onActivity();
    });
  }

  /** Counted if anything has waited. */
  #end(how: FlowCounter): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#stopTimer === undefined) return;
    this.#stopTimer();
    this.#host.counters.add(how);
  }
}
