/**
 * A plain UDP socket that asks relays where it is seen from (PROBE). Not for the packet path: one question at a time, each repeated
 * until it is answered or given up.
 *
 *   ask ─► PROBE, again every RESEND_MS, `attempts` times ─► PROBE REPLY with its nonce │ nothing within the last wait
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { IpAddress, SocketAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import { type Duration, Millis, toMillis } from '../../base/time.js';
import { decodeProbe, decodeProbeReply, encodeProbe, Frame, type Word64 } from '../../tunnel/frames.js';

/** Between two sends of one question. */
const RESEND: Duration = Millis(200);
/** Between two sends altogether: a relay answers a source 20 times a second at most, and drops the rest. */
const PACE: Duration = Millis(60);
/** Of one question. */
const ATTEMPTS = 4;

export interface Asking {
  readonly fromOtherPort?: boolean;
  /** The relay is to answer this much later; asked once only. Whole seconds. */
  readonly delaySeconds?: number;
  /** How long the answer to the last send is waited for. */
  readonly patience: Duration;
  /** Default 4. */
  readonly attempts?: number;
}

export interface Answered {
  readonly observed: SocketAddress;
  readonly answeringPort: number;
  readonly otherPort: number;
  /** From the send that was answered, or one before it. */
  readonly rtt: Duration;
}

type Listener = (message: Buffer, from: RemoteInfo) => void;

export class ProbeSocket {
  /** The address that packets to the relays leave from. */
  readonly local: SocketAddress;
  readonly #socket: Socket;
  readonly #entropy: Entropy;
  readonly #isBackground: boolean;
  readonly #listeners = new Set<Listener>();
  /** When the next send may be, on the clock of `performance`. */
  #free = 0;
  /** What gives up the questions that wait. */
  readonly #waiting = new Set<() => void>();

  private constructor(socket: Socket, local: SocketAddress, entropy: Entropy, isBackground: boolean) {
    this.#isBackground = isBackground;
    this.#socket = socket;
    this.local = local;
    this.#entropy = entropy;
    socket.on('message', (message, from) => {
      for (const listener of this.#listeners) listener(message, from);
    });
    // A relay that is not there is told by silence: errors of earlier sends say no more.
    socket.on('error', () => undefined);
  }

  /**
   * Undefined where this machine has no way to `relay`.
   * @param isBackground true: a process that has nothing else to do ends, whatever is still asked.
   */
  static async open(relay: SocketAddress, entropy: Entropy, isBackground: boolean): Promise<ProbeSocket | undefined> {
    const family = relay.ip.isV4 ? 'udp4' : 'udp6';
    const route = createSocket(family);
    const socket = createSocket({ type: family, ipv6Only: !relay.ip.isV4 });
    try {
      // A connected socket knows the source address that the routing table chooses.
      route.connect(relay.port, relay.ip.toString());
      await once(route, 'connect');
      const ip = IpAddress.parse(route.address().address.replace(/%.*$/, ''))!;
      socket.bind(0);
      await once(socket, 'listening');
      if (isBackground) socket.unref();
      return new ProbeSocket(socket, new SocketAddress(ip, socket.address().port), entropy, isBackground);
    } catch {
      socket.close();
      return undefined;
    } finally {
      route.close();
    }
  }

  /** Undefined: no answer. */
  ask(relay: SocketAddress, asking: Asking): Promise<Answered | undefined> {
    const nonce = this.#nonce();
    const probe = encodeProbe(nonce, asking.fromOtherPort, asking.delaySeconds);
    const attempts = asking.delaySeconds === undefined ? (asking.attempts ?? ATTEMPTS) : 1;
    let sent = 0;
    return this.#until(
      attempts,
      asking.patience,
      (message, from) => {
        const reply = message[0] === Frame.probeReply ? decodeProbeReply(message, 0, message.length) : undefined;
        if (reply === undefined || reply.nonce.high !== nonce.high || reply.nonce.low !== nonce.low) return undefined;
        if (!relay.ip.equals(IpAddress.parse(from.address)!)) return undefined;
        const { observed, answeringPort, otherPort } = reply;
        return { observed, answeringPort, otherPort, rtt: Millis(performance.now() - sent) };
      },
      () => {
        sent = performance.now();
        this.#send(probe, relay);
      },
    );
  }

  /** Whether datagrams from here to `address`, a public one of `other`, come in there. */
  turnsTo(other: ProbeSocket, address: SocketAddress, patience: Duration): Promise<boolean> {
    const nonce = this.#nonce();
    const probe = encodeProbe(nonce);
    const arrives = (message: Buffer): true | undefined => {
      const probed = message[0] === Frame.probe ? decodeProbe(message, 0, message.length) : undefined;
      return probed?.nonce.high === nonce.high && probed.nonce.low === nonce.low ? true : undefined;
    };
    return other.#until(2, patience, arrives, () => this.#send(probe, address)).then((came) => came === true);
  }

  /** What waits for an answer gets none. */
  close(): void {
    for (const giveUp of [...this.#waiting]) giveUp();
    this.#socket.close();
  }

  /** Sends now and every RESEND until `judge` makes something of what comes in, or for the last patience nothing did. */
  #until<T>(
    attempts: number,
    patience: Duration,
    judge: (message: Buffer, from: RemoteInfo) => T | undefined,
    send: () => void,
  ): Promise<T | undefined> {
    return new Promise((resolve) => {
      let left = attempts;
      let timer: NodeJS.Timeout | undefined;
      const finish = (result: T | undefined): void => {
        clearTimeout(timer);
        this.#listeners.delete(listener);
        this.#waiting.delete(giveUp);
        resolve(result);
      };
      const giveUp = (): void => finish(undefined);
      const listener: Listener = (message, from) => {
        const result = judge(message, from);
        if (result !== undefined) finish(result);
      };
      const next = (): void => {
        if (left === 0) {
          finish(undefined);
          return;
        }
        left--;
        send();
        timer = this.#after(toMillis(left === 0 ? patience : RESEND), next);
      };
      this.#listeners.add(listener);
      this.#waiting.add(giveUp);
      const wait = this.#free - performance.now();
      if (wait <= 0) next();
      else timer = this.#after(wait, next);
    });
  }

  #after(milliseconds: number, act: () => void): NodeJS.Timeout {
    const timer = setTimeout(act, milliseconds);
    return this.#isBackground ? timer.unref() : timer;
  }

  #send(bytes: Uint8Array, to: SocketAddress): void {
    this.#free = performance.now() + toMillis(PACE);
    this.#socket.send(bytes, to.port, to.ip.toString(), () => undefined);
  }

  #nonce(): Word64 {
    return { high: this.#entropy.uint32(), low: this.#entropy.uint32() };
  }
}
