/**
 * How a link is, from its heartbeats, seen from one end: round trip, jitter, loss each way, and how many heartbeats of each
 * direction are missing. While traffic flows both ends send heartbeats at a pace; an end that has nothing of its own to
 * watch answers those that ask.
 *
 *   none ──traffic──► slow (standby, 1 s) ◄──► fast (carries packets, 125 ms) ──quiet──► none
 *
 *   down:  ├─ last sign of life ─┤ srtt + 4·rttvar ┤ interval ┤ 1 missed ┤ interval ┤ 2 missed …
 *   up:    ├─ newest echoed beat sent ─┤ srtt + 4·rttvar ┤ 3 intervals ┤ 1 missed ┤ …
 *
 * Up is known from the peer's echo alone: that is one interval behind at the best and two at times, so a third means that two
 * heartbeats in a row got lost, or three when the peer answers at once. Times are RFC 6298's.
 */
import { type Duration, elapsed, type Instant, instantAt, later, Micros, Millis, Seconds } from '../../base/time.js';
import { BeatHistory, LOSS_WINDOW } from './beat-history.js';
import { emptyHeartbeat, type Heartbeat } from './frames.js';

export type Pace = 'none' | 'slow' | 'fast';

/** Between heartbeats of a link that carries packets: three fit into the 500 ms in which a dead one must be left. */
export const FAST_INTERVAL: Duration = Millis(125);
/** Between heartbeats of a standby. */
export const SLOW_INTERVAL: Duration = Seconds(1);
/** A heartbeat that left this short a time ago, or will soon, is answer enough. */
const ANSWER_SPACING: Duration = Millis(100);
/** The same when the peer too asks at its leisure: two standbys would otherwise answer each other ten times a second for ever. */
const SLOW_ANSWER_SPACING: Duration = Millis(500);
/** A peer whose questions are further apart than this has no hurry: twice the fast interval, and one may be lost. */
const LEISURE: Duration = Millis(300);
/** Echo intervals that are no miss yet, see above. */
const UP_SLACK = 2;
/** Timers of both ends are read once a turn, so nothing is missed before this much more (RFC 6298's clock granularity). */
const GRANULARITY: Duration = Millis(10);
/** Round trip until one has been measured (RFC 6298 §2.1 says 1 s for retransmissions; a link is only asked once more). */
const UNKNOWN_RTT: Duration = Millis(100);
/** A round trip longer than this is a lie or a clock that jumped. */
const LONGEST_RTT: Duration = Seconds(30);
/** Sending times kept; a peer that echoes an older heartbeat has missed more than it takes to leave the link. */
const TIMES = 32;
/** Instants are fractions: at the very time that `missDue` has told, the miss must be seen. */
const ROUNDING: Duration = Micros(1);
const NEVER = instantAt(Number.NEGATIVE_INFINITY);

export class LinkHealth {
  readonly up = new BeatHistory();
  readonly down = new BeatHistory();
  beatsOut = 0;
  /** Smoothed round trip and its mean deviation. */
  srtt: Duration = UNKNOWN_RTT;
  rttvar: Duration = Millis(0);
  samples = 0;
  /** Any sign of life of the peer on this link. */
  lastHeard: Instant = NEVER;
  #pace: Pace = 'none';
  #pacedSince: Instant = NEVER;
  #lastOut: Instant = NEVER;
  /** An answer is owed. */
  #isAsked = false;
  /** When the peer last asked, and whether it took its time. */
  #askedAt: Instant = NEVER;
  #isAskedSlowly = false;
  #seq = 0;
  readonly #sentAt = new Float64Array(TIMES).fill(Number.NEGATIVE_INFINITY);
  #echoed = 0;
  #reported = 0;
  #heardSeq = 0;
  #heardSent = 0;
  #heardAt: Instant = NEVER;
  #heardCount = 0;
  readonly #beat = emptyHeartbeat();

  /** What the handshake has measured, until heartbeats have. */
  seed(rtt: Duration): void {
    if (this.samples > 0 || !(rtt > 0)) return;
    this.srtt = rtt;
    this.rttvar = (rtt / 2) as Duration;
  }

  get pace(): Pace {
    return this.#pace;
  }

  /** A quicker pace begins to expect from now on: what did not come while nothing was asked is not missing. */
  setPace(now: Instant, pace: Pace): void {
    if (pace === this.#pace) return;
    if (this.#pace === 'none' || pace === 'fast') this.#pacedSince = now;
    this.#pace = pace;
  }

  /** Anything has come that only the peer can have sent. */
  heard(at: Instant): void {
    if (at > this.lastHeard) this.lastHeard = at;
  }

  /** When the next heartbeat is to leave; undefined: none by itself. */
  get beatDue(): Instant | undefined {
    const paced = this.#pace === 'none' ? undefined : later(this.#lastOut, this.#interval());
    if (!this.#isAsked) return paced;
    const spacing = this.#pace === 'slow' && this.#isAskedSlowly ? SLOW_ANSWER_SPACING : ANSWER_SPACING;
    const answer = later(this.#lastOut, spacing);
    return paced === undefined || answer < paced ? answer : paced;
  }

  /** The heartbeat that leaves now; valid until the next call. */
  makeBeat(now: Instant): Heartbeat {
    const beat = this.#beat;
    this.#seq = (this.#seq + 1) >>> 0 || 1;
    this.#sentAt[this.#seq % TIMES] = now;
    this.#lastOut = now;
    this.#isAsked = false;
    this.beatsOut++;
    beat.seq = this.#seq;
    beat.echo = this.#heardSeq;
    beat.sent = this.#pace === 'none' ? 0 : clockOf(now);
    beat.echoed = this.#heardSent === 0 ? 0 : (this.#heardSent + elapsed(this.#heardAt, now)) >>> 0 || 1;
    beat.received = this.#heardCount;
    return beat;
  }

  /** A heartbeat of the peer has come. */
  onBeat(now: Instant, beat: Heartbeat): void {
    this.heard(now);
    if (beat.sent !== 0) {
      this.#isAsked = true;
      this.#isAskedSlowly = elapsed(this.#askedAt, now) > LEISURE;
      this.#askedAt = now;
    }
    this.#countDown(now, beat);
    this.#readEcho(now, beat);
  }

  #countDown(now: Instant, { seq, sent }: Heartbeat): void {
    const ahead = this.#heardSeq === 0 ? 1 : (seq - this.#heardSeq) | 0;
    if (ahead <= 0) {
      if (this.down.cameLate(-ahead)) this.#heardCount = (this.#heardCount + 1) >>> 0;
      return;
    }
    this.down.push(ahead - 1, 1);
    this.#heardCount = (this.#heardCount + 1) >>> 0;
    this.#heardSeq = seq;
    this.#heardSent = sent;
    this.#heardAt = now;
  }

  #readEcho(now: Instant, { echo, echoed, received }: Heartbeat): void {
    const fresh = (echo - this.#echoed) | 0;
    // An echo of what has not been sent is a lie about this link only, and tells nothing.
    if (fresh <= 0 || ((this.#seq - echo) | 0) < 0) return;
    const came = Math.max(1, Math.min(fresh, (received - this.#reported) | 0));
    this.up.push(fresh - came, came);
    this.#echoed = echo;
    this.#reported = received;
    if (echoed !== 0) this.#measure(((clockOf(now) - echoed) | 0) as Duration);
  }

  #measure(rtt: Duration): void {
    if (rtt < 0 || rtt > LONGEST_RTT) return;
    if (this.samples++ === 0) {
      this.srtt = rtt;
      this.rttvar = (rtt / 2) as Duration;
      return;
    }
    this.rttvar = (0.75 * this.rttvar + 0.25 * Math.abs(this.srtt - rtt)) as Duration;
    this.srtt = (0.875 * this.srtt + 0.125 * rtt) as Duration;
  }

  /** Heartbeats, or other signs of life, that should have come and have not. */
  missedDown(now: Instant): number {
    return this.#pace === 'none' ? 0 : this.#missed(now, this.#heardSince(), 0);
  }

  /** Heartbeats sent that the peer should have told of and has not. */
  missedUp(now: Instant): number {
    return this.#pace === 'none' ? 0 : this.#missed(now, this.#echoedSince(), UP_SLACK);
  }

  missed(now: Instant): number {
    return Math.max(this.missedDown(now), this.missedUp(now));
  }

  /** When one more than `missed` will be missing if nothing comes; undefined when nothing is expected. */
  missDue(missed: number): Instant | undefined {
    if (this.#pace === 'none') return undefined;
    const down = this.#heardSince();
    const up = later(this.#echoedSince(), (UP_SLACK * this.#interval()) as Duration);
    return later(down < up ? down : up, (this.#patience() + (missed + 1) * this.#interval()) as Duration);
  }

  /** Share of the last heartbeats that was lost in the worse direction, 0 … 1. */
  loss(now: Instant, window = LOSS_WINDOW): number {
    return Math.max(
      this.up.loss(window, Math.max(0, this.missedUp(now))),
      this.down.loss(window, Math.max(0, this.missedDown(now))),
    );
  }

  /** Heartbeats known of in both directions. */
  get known(): number {
    return Math.min(this.up.length, this.down.length);
  }

  #interval(): Duration {
    return this.#pace === 'slow' ? SLOW_INTERVAL : FAST_INTERVAL;
  }

  #patience(): Duration {
    return (this.srtt + 4 * this.rttvar + GRANULARITY) as Duration;
  }

  #heardSince(): Instant {
    return this.lastHeard > this.#pacedSince ? this.lastHeard : this.#pacedSince;
  }

  #echoedSince(): Instant {
    const isKept = this.#echoed !== 0 && ((this.#seq - this.#echoed) | 0) < TIMES;
    const sent = isKept ? instantAt(this.#sentAt[this.#echoed % TIMES]!) : NEVER;
    return sent > this.#pacedSince ? sent : this.#pacedSince;
  }

  #missed(now: Instant, since: Instant, slack: number): number {
    const beyond = elapsed(since, now) - this.#patience() + ROUNDING;
    return Math.max(0, Math.floor(beyond / this.#interval()) - slack);
  }
}

/** The clock as heartbeats carry it: microseconds, 32 bits, never 0. */
function clockOf(now: Instant): number {
  return Math.floor(now % 0x1_0000_0000) >>> 0 || 1;
}
