/**
 * What one direction of a bad link does to packets, decided packet by packet from a seed: pure, time is an argument (milliseconds).
 *
 *   offer ─► down or too large? ─► lost? ─► queue full? ─► serialized at `rate` ─► delay + jitter ─► held back? ─► release time(s)
 *
 * Every packet draws the same number of random numbers whatever its fate, so that a profile changed half-way changes nothing
 * else. Loss in bursts: Gilbert–Elliott (two states, one draw for the change, one for the loss).
 */

/**
 * @typedef {object} Profile
 * @property {number} [loss] probability of losing a packet (in the good state, where there are two)
 * @property {{enter: number, leave: number, loss: number}} [burst] probabilities per packet to enter and to leave the bad state, and of loss in it
 * @property {number} [rate] bits per second; 0 = unlimited
 * @property {number} [queue] bytes that may wait for the rate; default 100 ms of it, at least 3000
 * @property {number} [delay] milliseconds
 * @property {number} [jitter] milliseconds added at most, evenly spread; order is kept
 * @property {number} [reorder] probability of being held back by `reorderDelay`
 * @property {number} [reorderDelay] milliseconds; default 5
 * @property {number} [duplicate] probability of arriving twice
 * @property {number} [largest] bytes; larger packets vanish
 * @property {boolean} [down] everything vanishes
 */

const DEFAULT_QUEUE_MS = 100;
const MIN_QUEUE_BYTES = 3000;
const DEFAULT_REORDER_DELAY_MS = 5;

export class Impairment {
  /**
   * @param {number} seed
   * @param {Profile} profile
   */
  constructor(seed, profile) {
    this.profile = profile;
    this.counters = {
      offered: 0,
      delivered: 0,
      lost: 0,
      queueFull: 0,
      tooLarge: 0,
      down: 0,
      duplicated: 0,
      heldBack: 0,
    };
    /** Release times of the packet last offered, as many as `offer` returned. */
    this.releases = [0, 0];
    this.state = seed >>> 0;
    this.bad = false;
    this.busyUntil = 0;
    this.lastRelease = 0;
  }

  /**
   * How often (0, 1 or 2) a packet of `bytes` that comes at `now` arrives; when is in `releases`.
   * @param {number} now
   * @param {number} bytes
   */
  offer(now, bytes) {
    const { profile, counters } = this;
    counters.offered++;
    const change = this.random();
    const loss = this.random();
    const jitter = this.random();
    const reorder = this.random();
    const duplicate = this.random();
    const { burst } = profile;
    if (burst === undefined) this.bad = false;
    else if (this.bad ? change < burst.leave : change < burst.enter) this.bad = !this.bad;

    if (profile.down === true) {
      counters.down++;
      return 0;
    }
    if (bytes > (profile.largest ?? Number.POSITIVE_INFINITY)) {
      counters.tooLarge++;
      return 0;
    }
    if (loss < (this.bad && burst !== undefined ? burst.loss : (profile.loss ?? 0))) {
      counters.lost++;
      return 0;
    }
    const rate = profile.rate ?? 0;
    let sent = now;
    if (rate > 0) {
      const backlog = (Math.max(0, this.busyUntil - now) * rate) / 8000;
      const queue = profile.queue ?? Math.max(MIN_QUEUE_BYTES, (rate * DEFAULT_QUEUE_MS) / 8000);
      if (backlog + bytes > queue) {
        counters.queueFull++;
        return 0;
      }
      sent = Math.max(now, this.busyUntil) + (bytes * 8000) / rate;
      this.busyUntil = sent;
    }
    const natural = sent + (profile.delay ?? 0) + jitter * (profile.jitter ?? 0);
    // Jitter alone never lets a packet overtake another.
    this.lastRelease = Math.max(natural, this.lastRelease);
    let release = this.lastRelease;
    if (reorder < (profile.reorder ?? 0)) {
      release += profile.reorderDelay ?? DEFAULT_REORDER_DELAY_MS;
      counters.heldBack++;
    }
    this.releases[0] = release;
    counters.delivered++;
    if (duplicate >= (profile.duplicate ?? 0)) return 1;
    this.releases[1] = release;
    counters.duplicated++;
    return 2;
  }

  /** Even in [0, 1): mulberry32. */
  random() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** Packets that wait for their time: a binary heap by release time, then by order of arrival. */
export class WaitingPackets {
  constructor() {
    /** @type {{at: number, order: number, to: number, bytes: Uint8Array}[]} */
    this.heap = [];
    this.order = 0;
  }

  get size() {
    return this.heap.length;
  }

  /** Release time of the first packet; infinity when none waits. */
  get next() {
    return this.heap[0]?.at ?? Number.POSITIVE_INFINITY;
  }

  /**
   * @param {number} at
   * @param {number} to
   * @param {Uint8Array} bytes
   */
  push(at, to, bytes) {
    const { heap } = this;
    const entry = { at, order: this.order++, to, bytes };
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!before(entry, heap[parent])) break;
      heap[index] = /** @type {typeof entry} */ (heap[parent]);
      index = parent;
    }
    heap[index] = entry;
  }

  /** Takes out the first packet; undefined when none waits. */
  pop() {
    const { heap } = this;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      const right = heap[child + 1];
      if (right !== undefined && before(right, heap[child])) child++;
      const smaller = heap[child];
      if (smaller === undefined || !before(smaller, last)) break;
      heap[index] = smaller;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

/**
 * @param {{at: number, order: number}} one
 * @param {{at: number, order: number} | undefined} other
 */
function before(one, other) {
  return other === undefined || one.at < other.at || (one.at === other.at && one.order < other.order);
}
