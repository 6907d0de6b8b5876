/**
 * The live links of one session, at either end: the link manager and what it needs of the node. It knows which link packets
 * take, and on which other one they go out as copies.
 */
import type { Counters } from '../base/counters.js';
import { type Duration, type Instant, Millis } from '../base/time.js';
import { wordAt } from '../tunnel/frames.js';
import { CopyWindow } from '../tunnel/links/copy-window.js';
import { COPY_HEADER, LinkFrame } from '../tunnel/links/frames.js';
import type { ManagedLink, Tier } from '../tunnel/links/managed-link.js';
import { LinkManager } from '../tunnel/links/manager.js';
import type { HeldPath, PathChoice } from '../tunnel/links/path-choice.js';
import type { LinkCounter, LinkReason } from '../tunnel/links/states.js';
import type { Link } from './link.js';

export interface LinkSetOwner {
  /** Packets take another link from now on, or none. */
  onActive(now: Instant, link: Link | undefined, reason: LinkReason): void;
  /** One more link is live, whether packets take it or not. */
  onLive?(now: Instant): void;
  /** A direct link is dead: it is out of the set, and to be closed. */
  onDead(now: Instant, link: Link): void;
  /** `turn` is wanted now. */
  onWake(now: Instant): void;
}

export interface LinkSetOptions {
  /** The agent decides which link is used, the connector follows. */
  readonly decides: boolean;
  readonly path: PathChoice;
  readonly counters: Counters<LinkCounter>;
  readonly owner: LinkSetOwner;
}

export class LinkSet {
  readonly manager: LinkManager;
  readonly #byManaged = new Map<ManagedLink, Link>();
  readonly #counters: Counters<LinkCounter>;
  readonly #owner: LinkSetOwner;
  readonly #window = new CopyWindow();
  #copySeq = 0;

  constructor({ decides, path, counters, owner }: LinkSetOptions) {
    this.#counters = counters;
    this.#owner = owner;
    this.manager = new LinkManager({
      decides,
      path,
      counters,
      onActive: (now, managed, reason) => {
        const link = managed && this.#byManaged.get(managed);
        link?.beginsToCarry(now);
        owner.onActive(now, link, reason);
      },
      onDead: (now, managed) => {
        const link = this.#byManaged.get(managed)!;
        this.#byManaged.delete(managed);
        link.leaveSet();
        owner.onDead(now, link);
      },
    });
  }

  /** The link is live: it may be used. @param isV6 its underlay's family. */
  add(now: Instant, link: Link, tier: Tier, isV6: boolean): void {
    const { number, connection } = link;
    const managed = this.manager.add(now, { tier, isV6, number, connection });
    this.#byManaged.set(managed, link);
    link.joinSet(this, managed);
    this.manager.live(now, managed, connection.stats()?.rtt ?? (Millis(0) as Duration));
    this.#owner.onLive?.(now);
  }

  /** The link is closed; nothing happens when it is not in the set. */
  remove(now: Instant, link: Link, reason: LinkReason): void {
    const { managed } = link;
    if (managed === undefined || !this.#byManaged.delete(managed)) return;
    link.leaveSet();
    this.manager.remove(now, managed, reason);
  }

  get size(): number {
    return this.#byManaged.size;
  }

  /** The link that carries packets. */
  get active(): Link | undefined {
    const { active } = this.manager;
    return active && this.#byManaged.get(active);
  }

  /** The link for packets that are held to links of one kind; undefined: there is none. */
  linkOn(now: Instant, path: HeldPath): Link | undefined {
    const managed = this.manager.linkOn(now, path);
    return managed && this.#byManaged.get(managed);
  }

  /** Packets go out on `link` now: the link that gets copies of them; undefined: no copies. @param isHeld as for `Outbound.begin`. */
  secondOf(now: Instant, link: Link, isHeld: boolean): Link | undefined {
    this.traffic(now);
    const { copyTo, active } = this.manager;
    if (copyTo === undefined || link.managed !== active) return undefined;
    const second = this.#byManaged.get(copyTo);
    return isHeld && second?.isDirect !== link.isDirect ? undefined : second;
  }

  /** The number of the next copy. */
  nextCopy(): number {
    const seq = this.#copySeq;
    this.#copySeq = (seq + 1) >>> 0;
    this.#counters.add('copies_out');
    return seq;
  }

  /** Packets go out, or have come. */
  traffic(now: Instant): void {
    if (this.manager.traffic(now) || this.#byManaged.size > 1) this.#owner.onWake(now);
  }

  /** A heartbeat has come on `link`. False: it is malformed. */
  onBeat(now: Instant, link: Link, bytes: Uint8Array, offset: number, length: number): boolean {
    if (link.managed === undefined || !this.manager.onBeat(now, link.managed, bytes, offset, length)) return false;
    this.#owner.onWake(now);
    return true;
  }

  /** A copy has come. Whether it is the first of its number and holds anything. */
  onCopy(now: Instant, bytes: Uint8Array, offset: number, length: number): boolean {
    if (length < COPY_HEADER) return false;
    this.manager.onCopy(now, bytes[offset] === LinkFrame.mirroredCopy);
    this.#owner.onWake(now);
    return length > COPY_HEADER && this.#window.accept(wordAt(bytes, offset + 1));
  }
}
