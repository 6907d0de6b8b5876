/** The datagrams of one program port and destination that wait in lanes, both ways; whole or not at all. */
import type { Instant } from '../../base/time.js';
import { type FlowShape, sameShape } from './rate.js';
import type { Lane, Shaper } from './shaper.js';

/** Takes one datagram whose time has come; lent. */
export type SendDatagram = (now: Instant, bytes: Uint8Array, offset: number, length: number) => void;

export class ShapedDatagrams {
  readonly up: Lane;
  readonly down: Lane;
  readonly #shaper: Shaper;
  #shape: FlowShape;

  constructor(shaper: Shaper, shape: FlowShape, sendUp: SendDatagram, sendDown: SendDatagram) {
    const { up, down } = shaper.lanes(
      shape,
      false,
      (now) => drain(this.up, now, sendUp),
      (now) => drain(this.down, now, sendDown),
    );
    this.#shaper = shaper;
    this.#shape = shape;
    this.up = up;
    this.down = down;
  }

  /** Held back otherwise from now on; what waits keeps its time. */
  change(shape: FlowShape): void {
    if (sameShape(shape, this.#shape)) return;
    this.#shape = shape;
    this.#shaper.change(this, shape);
  }

  /** Datagrams that wait. */
  get count(): number {
    return this.up.ring.count + this.down.ring.count;
  }

  /** What waits is dropped. */
  close(): void {
    this.up.close();
    this.down.close();
  }
}

function drain(lane: Lane, now: Instant, send: SendDatagram): void {
  const { ring } = lane;
  for (let due = ring.firstDue(); due !== undefined && due <= now; due = ring.firstDue()) {
    send(now, ring.bytes, ring.firstOffset, ring.firstLength);
    // The flow may have ended by it.
    if (ring.count > 0) ring.consume(ring.firstLength);
  }
  lane.arm();
}
