/**
 * A session's search for a direct way, as both ends do it: tokens and candidates told (`punch`), rounds begun together (`round`),
 * frames that came judged by the session's puncher. Which link is made, and when, is the agent's business.
 *
 * Messages carry a number that grows, as they go out on every live link: what is not newer than the last is ignored.
 */
import { SocketAddress } from '../base/address.js';
import { type Duration, elapsed, type Instant, later, Millis, Minutes, scale, toMillis } from '../base/time.js';
import type { ToAgent, ToConnector } from '../tunnel/messages.js';
import {
  believeCandidates,
  type Candidate,
  isUnicast,
  judgeCandidate,
  type Refusal,
  type ToldCandidate,
  tellCandidates,
  withSeen,
} from '../tunnel/punch/candidates.js';
import { Puncher } from '../tunnel/punch/puncher.js';
import { type NatEase, type PunchPlan, punchPlan } from '../tunnel/punch-plan.js';
import type { Punching } from './punching.js';

export type PunchMessage = Extract<ToAgent, { type: 'punch' }>;
export type SessionMessage = Extract<ToConnector, { type: 'punch' | 'round' | 'active' }>;

/** A round begins this much later, so that the slower end has finished with its message. */
const START_IN: Duration = Millis(20);

/** Ports are guessed once per session, own network and this time. */
const GUESS_INTERVAL: Duration = Minutes(10);

export class DirectPath {
  readonly puncher: Puncher;
  /** Candidates of the peer that may be tried; undefined before it has told any. */
  believed: number | undefined;
  /** Why others of them may not. */
  refused: readonly Refusal[] = [];
  /** How easily one gets through the peer's NAT, as it says. */
  peerEase: NatEase = 'unknown';
  /** The peer has said that it wants no direct links. */
  isPeerOff = false;
  /** Where the peer has seen our own sockets, by family: it is told, as it may have forgotten when it punches again. */
  readonly #seen = new Map<number, SocketAddress>();
  #n = 0;
  #guessedAt: Instant | undefined;
  #heard = -1;
  #hasMoved = false;
  #told: string | undefined;
  /** What the peer has told last: what cannot be reached now may be when routes have changed. */
  #peerTold: readonly ToldCandidate[] = [];
  /** Something of it can be reached now that could not before: worth a round of both ends. */
  #hasMore = false;
  readonly #punching: Punching;
  readonly #say: (message: SessionMessage) => void;

  /** @param say sends a message on every live link of the session. */
  constructor(punching: Punching, say: (message: SessionMessage) => void) {
    this.#punching = punching;
    this.#say = say;
    const { entropy, counters, send } = punching;
    this.puncher = new Puncher({
      entropy,
      counters,
      send,
      onSeen: ({ address: { ip }, socket }, seen) => {
        const isUsable = seen.ip.family === ip.family && seen.port !== 0 && isUnicast(seen.ip);
        if (isUsable && socket === 0) this.#seen.set(ip.family, seen);
      },
    });
  }

  /** How this session's rounds go. */
  get plan(): PunchPlan {
    return punchPlan(this.#punching.ease, this.peerEase);
  }

  #candidates(): readonly Candidate[] {
    return withSeen(this.#punching.candidates, this.#seen.values());
  }

  /** Tells the peer a new token and where we are. */
  announce(now: Instant): void {
    const { reflexive, ease, path } = this.#punching;
    const isOff = path === 'relay';
    const candidates = isOff ? [] : this.#candidates();
    this.#told = this.#news(candidates);
    this.#hasMoved = false;
    const token = this.puncher.renewToken(now);
    this.#punching.registerTokens(now, this);
    this.#say({
      type: 'punch',
      n: this.#n++,
      token: toHex(token),
      candidates: tellCandidates(candidates),
      ...(reflexive.isStrict === undefined ? {} : { strict: reflexive.isStrict }),
      ease,
      ...(isOff ? { off: true } : {}),
    });
  }

  /** Whether the peer has been told of anything. */
  get hasTold(): boolean {
    return this.#told !== undefined;
  }

  /** The same, if what was told is no longer so, or more of the peer's addresses can be reached. Returns whether it was. */
  announceChange(now: Instant): boolean {
    const hasMore = this.#hasMore;
    this.#hasMore = false;
    if (this.#told === undefined || (!hasMore && !this.#hasMoved && this.#news(this.#candidates()) === this.#told))
      return false;
    this.announce(now);
    return true;
  }

  /** A link is live: one through the relay may go to a peer that has missed what was told, a direct one shows more. */
  linkLive(now: Instant, isDirect: boolean): void {
    if (isDirect) this.announceChange(now);
    else this.announce(now);
  }

  /** This host is in another network: what was found out in the one before is worth nothing, good or bad. */
  move(): void {
    this.#hasMoved = true;
    this.#guessedAt = undefined;
    this.#seen.clear();
    this.puncher.pairs.forget();
  }

  /** Whether this host has moved since the peer was told of anything. */
  get hasMoved(): boolean {
    return this.#hasMoved;
  }

  /** Whether a message of the peer's is newer than all before; it is then the last. */
  isNews(n: number): boolean {
    if (n <= this.#heard) return false;
    this.#heard = n;
    return true;
  }

  /** The peer has begun anew and counts from the beginning. */
  forgetPeer(): void {
    this.isPeerOff = false;
    this.#heard = -1;
    this.puncher.stop();
  }

  #news(candidates: readonly Candidate[]): string {
    return `${this.#punching.reflexive.isStrict} ${this.#punching.ease} ${candidates.map(({ address }) => address.toString()).join()}`;
  }

  hearPunch({ token, candidates, strict, ease = 'unknown', off = false }: PunchMessage): void {
    this.isPeerOff = off;
    this.peerEase = strict === true ? 'strict' : ease;
    this.#peerTold = candidates;
    const refused = new Set<Refusal>();
    const believed = believeCandidates(candidates, this.#punching.rules, (why) => {
      this.#punching.refusals.add(why);
      refused.add(why);
    });
    this.believed = believed.length;
    this.refused = [...refused];
    this.puncher.setPeer(fromHex(token), believed);
    // It may be back in a network that it was out of when the handshake failed.
    this.puncher.pairs.unbar();
  }

  /** Agent: both ends begin. @param rtt of the link that carries the word. */
  beginRound(now: Instant, rtt: Duration): void {
    this.#say({ type: 'round', n: this.#n++, startIn: toMillis(START_IN), guess: false });
    this.puncher.start(later(later(now, START_IN), scale(rtt, 0.5)), this.plan);
    this.#punching.wake(this);
  }

  /** Agent: both ends begin to guess ports, if that is of use. Returns whether they do. */
  beginGuessing(now: Instant): boolean {
    if (!this.#mayGuess(now)) return false;
    this.#say({ type: 'round', n: this.#n++, startIn: toMillis(START_IN), guess: true });
    this.#punching.guess(later(now, START_IN), this);
    return true;
  }

  /** The peer alone says where it is, and may mean somebody else: a thousand packets are not sent there twice. */
  #mayGuess(now: Instant): boolean {
    const isTooSoon = this.#guessedAt !== undefined && elapsed(this.#guessedAt, now) < GUESS_INTERVAL;
    if (isTooSoon || this.#punching.birthdayRole(this) === undefined) return false;
    this.#guessedAt = now;
    return true;
  }

  get isGuessing(): boolean {
    return this.#punching.isGuessing(this);
  }

  /** Connector: the agent wants a round, or ports to be guessed. */
  joinRound(now: Instant, startIn: number, guess: boolean): void {
    if (!this.puncher.knowsPeer || this.plan.rounds === 0) return;
    if (guess) {
      if (!this.#mayGuess(now)) return;
      this.#punching.guess(later(now, Millis(startIn)), this);
      return;
    }
    this.puncher.start(later(now, Millis(startIn)), this.plan);
    this.#punching.wake(this);
  }

  /** Agent: which link carries packets from now on. */
  tellActive(link: number, reason: string): void {
    this.#say({ type: 'active', n: this.#n++, link, reason });
  }

  /** The host's routes have changed: pairs are judged again, and so is what was refused before. */
  judgeAgain(): void {
    const { rules, refusals } = this.#punching;
    const { pairs } = this.puncher;
    pairs.drop(({ address }) => {
      const why = judgeCandidate(address, rules);
      if (why !== undefined) refusals.add(why);
      return why !== undefined;
    });
    const refused = new Set<Refusal>();
    const believed = believeCandidates(this.#peerTold, rules, (why) => refused.add(why));
    this.refused = [...refused];
    this.believed = this.believed === undefined ? undefined : believed.length;
    const isKnown = ({ address }: Candidate): boolean => pairs.all.some((pair) => pair.address.equals(address));
    this.#hasMore ||= !believed.every(isKnown);
    pairs.replace(believed);
  }

  /** Whether the packed address at `index`, from which a frame came, may be talked to; a private one has shown that it is there. */
  mayAnswer(sources: Uint32Array, index: number, socket: number): boolean {
    if (this.puncher.pairs.at(sources, index, socket) !== undefined) return true;
    const why = judgeCandidate(SocketAddress.read(sources, index), this.#punching.rules);
    if (why !== undefined && why !== 'private') this.#punching.refusals.add(why);
    return why === undefined || why === 'private';
  }

  /** Whether links may go to this address now. */
  mayUse(address: SocketAddress): boolean {
    const why = judgeCandidate(address, this.#punching.rules);
    return why === undefined || why === 'private';
  }
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function fromHex(text: string): Uint8Array {
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(i * 2, i * 2 + 2), 16));
}
