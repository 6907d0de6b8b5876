/**
 * Proportional rate reduction: during recovery the flight shrinks to the threshold at the pace at which data leaves the
 * network, never by a pause, and grows back by at most one segment per acknowledgement that shows no further loss.
 *
 * RFC 9937 §6 (RFC 6937 before it).
 */
export class ProportionalReduction {
  #flight = 1;
  #delivered = 0;
  #sent = 0;

  /** Recovery begins with `flight` bytes outstanding that were not known to have arrived. */
  begin(flight: number): void {
    this.#flight = Math.max(flight, 1);
    this.#delivered = 0;
    this.#sent = 0;
  }

  sent(bytes: number): void {
    this.#sent += bytes;
  }

  /**
   * The congestion window after an acknowledgement of `delivered` bytes with `pipe` bytes still in flight. `safe`: it
   * advanced and no further loss showed. The first acknowledgement always lets one segment go (the fast retransmit).
   */
  window(pipe: number, threshold: number, mss: number, delivered: number, safe: boolean): number {
    this.#delivered += delivered;
    let send: number;
    if (pipe > threshold) {
      send = Math.ceil((this.#delivered * threshold) / this.#flight) - this.#sent;
    } else {
      send = Math.max(this.#delivered - this.#sent, delivered);
      if (safe) send += mss;
      send = Math.min(send, threshold - pipe);
    }
    if (this.#sent === 0) send = Math.max(send, mss);
    return pipe + Math.max(send, 0);
  }
}
