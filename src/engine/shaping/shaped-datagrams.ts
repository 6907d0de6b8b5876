/** The datagrams of one program port and destination that wait in lanes, both ways; whole or not at all. */
import type { Instant } from '../../base/time.js';
import type { FlowShape } from './rate.js';
import type { Lane, Shaper } from './shaper.js';

/** Takes one datagram whose time has come; lent. */
export type SendDatagram = (now: Instant, bytes: Uint8Array, offset: number, length: number) => void;

export class ShapedDatagrams {
  readonly up: Lane;
  readonly down: Lane;

  constructor(shaper: Shaper, shape: FlowShape, sendUp: SendDatagram, sendDown: SendDatagram) {
    const { up, down } = shaper.lanes(
      shape,
      false,
      (now) => drain(this.up, now, sendUp),
      (now) => drain(this.down, now, sendDown),
    );
    this.up = up;
    this.down = down;
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
