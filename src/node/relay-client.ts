/**
 * A node's relay connection: kept up for as long as the node runs.
 *
 *   waiting ──due──► connecting ──handshake──► greeting ──relay's hello──► ready
 *      ▲                 │                        │                          │
 *      └─────── back-off with jitter ◄── closed, refused, silent ◄───────────┘
 *
 * A relay that drains is not tried at once when it has closed: it is known to be going, and all its nodes lose it together.
 *
 * "Ready" means the relay's hello has arrived: a client's handshake ends before the server has judged its certificate.
 * While packets wait for a relay that cannot be reached, its addresses are probed, and the first that answers is tried at once.
 */
import type { SocketAddress } from '../base/address.js';
import { TokenBucket } from '../base/bucket.js';
import { describeError } from '../base/error.js';
import { type Duration, earliest, elapsed, type Instant, later, Millis, Seconds } from '../base/time.js';
import type { CloseReason, ConnectionHandler, DatagramBatch, QuicConnection } from '../quic/connection.js';
import type { ControlStream } from '../quic/control-stream.js';
import { Backoff, RECONNECT_WANTED_CAP } from '../tunnel/backoff.js';
import { decodeObserved, encodeRevalidated, type Word64 } from '../tunnel/frames.js';
import { decodeMessage, encodeMessage, FromRelay, PROTOCOL_VERSION, type ToRelay } from '../tunnel/messages.js';
import { closeText } from './close-text.js';
import { LifeSigns } from './life-signs.js';
import type { RelayClientParts } from './relay-client-parts.js';
import { RelayProbes } from './relay-probes.js';
import { RelayRenewal, type RenewalClient } from './relay-renewal.js';
import { type Answer, RelayRequests } from './relay-requests.js';

/** An attempt that has not become ready by then is given up. */
const CONNECT_TIMEOUT: Duration = Seconds(8);
/** The same while nothing at all has come from an address and there are others to try. */
const NEXT_ADDRESS: Duration = Seconds(2);
/** An answer to a probe sent this long after a handshake began, which nothing has answered: what it sent was lost. */
const LOST_HANDSHAKE: Duration = Millis(200);
/** An attempt that an answered probe began is let alone for this long: a relay that restarts has many to answer. */
const PROBED_PATIENCE: Duration = Seconds(2);
/** The native side and this one round the same instant differently. */
const CLOCK_STEP: Duration = Millis(1);
/** A connection that was ready for this long has worked. */
const SETTLED: Duration = Seconds(5);
/** A relay asks at most ten times a second; whoever repeats its question more often gets no more answers. */
const REVALIDATIONS_PER_SECOND = 20;
/** Whether UDP passes again is asked this often while the connection goes over TCP; longer after each time it did not. */
const UPGRADE_INTERVAL: Duration = Seconds(5);
const UPGRADE_INTERVAL_MAX: Duration = Seconds(600);

const NO_ADDRESS = 'the relay’s name has no address that this machine reaches';

export type RelayState = 'waiting' | 'connecting' | 'greeting' | 'ready' | 'stopped';

export class RelayClient implements RenewalClient {
  #state: RelayState = 'waiting';
  #connection: QuicConnection | undefined;
  #control: ControlStream | undefined;
  /** Nothing is due before the relay's addresses are known. */
  #deadline: Instant | undefined;
  #since: Instant = 0 as Instant;
  #addresses: readonly SocketAddress[] = [];
  #nextAddress = 0;
  readonly #lifeSigns = new LifeSigns();
  #lies = 0;
  #isDraining = false;
  #isKept = true;
  #lastProblem = '';
  /** What the relay said against this node on the present connection. */
  #refusal = '';
  readonly #revalidations = new TokenBucket(REVALIDATIONS_PER_SECOND, REVALIDATIONS_PER_SECOND);
  readonly #requests = new RelayRequests();
  readonly #backoff: Backoff;
  readonly #parts: RelayClientParts;
  readonly #probes: RelayProbes;
  readonly #renewal: RelayRenewal;
  /** The last attempt or connection ended because nothing came any more. */
  #isUnreachable = false;
  /** The present attempt was begun by an answered probe. */
  #isProbed = false;
  /** Where the relay is reached over TCP, while it is: a port of this machine. */
  #tcpAddress: SocketAddress | undefined;
  #tcpCredit: SharedArrayBuffer | undefined;
  #isOverTcp = false;
  #upgradeAt: Instant | undefined;
  #upgradeWait = UPGRADE_INTERVAL;

  constructor(parts: RelayClientParts) {
    this.#parts = parts;
    this.#backoff = new Backoff(parts.entropy);
    this.#probes = new RelayProbes(parts.entropy, parts.sendProbe);
    this.#renewal = new RelayRenewal(this, parts.wall);
  }

  get state(): RelayState {
    return this.#state;
  }
  /** When the present state was entered. */
  get since(): Instant {
    return this.#since;
  }
  get name(): string {
    return this.#parts.name;
  }
  get slot(): number {
    return this.#parts.slot;
  }
  /** Whether it may be asked for anything: while a loss is told, the state is still `ready`. */
  get isReady(): boolean {
    return this.#state === 'ready' && this.#connection !== undefined;
  }
  /** The relay has said that it is about to stop. */
  get isDraining(): boolean {
    return this.#isDraining;
  }
  /** Whether a connection is kept, or made. */
  get isKept(): boolean {
    return this.#isKept;
  }
  get connection(): QuicConnection | undefined {
    return this.#connection;
  }
  /** Why the last attempt or connection ended; empty when none has. */
  get lastProblem(): string {
    return this.#lastProblem;
  }
  /** Things the relay has said that cannot be true, and that were not followed. */
  get lies(): number {
    return this.#lies;
  }
  get addresses(): readonly SocketAddress[] {
    return this.#addresses;
  }
  /** Whether the present attempt or connection goes over TCP. */
  get isOverTcp(): boolean {
    return this.#isOverTcp;
  }

  /**
   * A way over TCP stands at this address, or no longer. It is taken at once unless UDP has brought something: of raced attempts
   * the first that answers wins.
   */
  setTcp(now: Instant, address: SocketAddress | undefined, credit?: SharedArrayBuffer): void {
    this.#tcpAddress = address;
    this.#tcpCredit = credit;
    if (address === undefined) {
      if (this.#isOverTcp && this.#connection !== undefined) this.#drop(now, 'the TCP connection is lost');
      return;
    }
    if (!this.#isKept) return;
    if (this.#state === 'connecting' && !this.#isOverTcp) {
      if (this.#connection!.silentFor(now) < elapsed(this.#since, now) - CLOCK_STEP) return;
      this.#abandon(now);
    } else if (this.#state !== 'waiting') return;
    this.#connect(now, address);
  }

  /** The relay's addresses, best first; used from the next attempt on. */
  setAddresses(addresses: readonly SocketAddress[]): void {
    this.#noAddress = NO_ADDRESS;
    if (addresses.map(String).join() === this.#addresses.map(String).join() && this.#deadline !== undefined) return;
    const isFirst = this.#addresses.length === 0;
    this.#addresses = addresses;
    this.#nextAddress = 0;
    if (isFirst && this.#state === 'waiting' && this.#isKept) this.#deadline = 0 as Instant;
  }

  /** The relay's name cannot be resolved now: the addresses known before are still tried. */
  noAddress(problem: string): void {
    this.#noAddress = problem;
    if (this.#state === 'waiting' && this.#addresses.length === 0 && this.#isKept) this.#deadline ??= 0 as Instant;
  }
  #noAddress = NO_ADDRESS;

  /** Whether a connection is to be kept; one that is not ends at once. */
  keep(now: Instant, isKept: boolean): void {
    if (this.#isKept === isKept || this.#state === 'stopped') return;
    this.#isKept = isKept;
    if (!isKept) {
      if (this.#connection !== undefined) this.#drop(now, 'another relay is nearer');
      this.#deadline = undefined;
      this.#isUnreachable = false;
    } else if (this.#addresses.length > 0) this.#deadline = now;
  }

  /** Makes the next attempt at once: the network has changed. */
  wake(now: Instant): void {
    if (this.#state === 'waiting' && this.#isKept) this.#deadline = now;
  }

  send(message: ToRelay): boolean {
    // While the loss of a connection is told, the state is still `ready` and the stream is gone.
    return this.#state === 'ready' && this.#control?.send(encodeMessage(message)) === true;
  }

  /** Sends a request that carries an `id`; `done` is called exactly once. */
  request(
    now: Instant,
    make: (id: number) => Extract<ToRelay, { id: number }>,
    done: (now: Instant, answer: Answer) => void,
  ): void {
    const id = this.#requests.number();
    if (!this.send(make(id))) {
      done(now, { ok: false, code: 'NO_RELAY', message: 'the relay is not connected' });
      return;
    }
    this.#requests.add(now, id, done);
  }

  /** Answers a REVALIDATE: proves on the relay connection that its receiver is this node. */
  revalidate(now: Instant, nonce: Word64): void {
    if (this.#revalidations.take(now)) this.#connection?.sendDatagram(encodeRevalidated(nonce));
  }

  /** Packets went out through the relay and nothing has come back since: starts the watch for life signs. */
  sentRelayed(now: Instant): void {
    this.#lifeSigns.sent(now);
  }

  /** The relay has said something that this node knows better: counted, and shown by `status`. */
  countLie(what: string): void {
    this.#lies++;
    this.#lastProblem = what;
  }

  /** Packets came through the relay. */
  receivedRelayed(now: Instant): void {
    this.#lifeSigns.received(now);
  }

  /** This machine may have slept: the relay is asked for a life sign at once. */
  suspect(now: Instant): void {
    if (this.#state === 'ready') this.#lifeSigns.suspect(now);
    else this.wake(now);
  }

  /** The host's routes have changed: an address that none leads to any more is left for another one at once, if there is one. */
  routesChanged(now: Instant, hasRoute: (address: SocketAddress) => boolean): void {
    const at = this.#connection?.remote;
    if (at === undefined || this.#isOverTcp || hasRoute(at)) return;
    const next = this.#addresses.findIndex(hasRoute);
    if (next < 0) return;
    this.#drop(now, 'no route leads to its address any more');
    this.#nextAddress = next;
    this.wake(now);
  }

  /** An address of the relay answered a probe: it is tried at once, unless an attempt is well under way. */
  onProbeReply(now: Instant, nonce: Word64): void {
    const probe = this.#isUnreachable || this.#isOverTcp ? this.#probes.answered(nonce) : undefined;
    if (probe === undefined) return;
    if (this.#isOverTcp && this.#state === 'ready') {
      this.#upgradeWait = Math.min(this.#upgradeWait * 2, UPGRADE_INTERVAL_MAX) as Duration;
      this.#drop(now, 'UDP passes again');
    } else if (this.#state === 'connecting') {
      const age = elapsed(this.#since, now);
      const isHeard = this.#connection!.silentFor(now) < age - CLOCK_STEP;
      const isLost = !isHeard && elapsed(this.#since, probe.asked) >= LOST_HANDSHAKE;
      if (!isLost || (this.#isProbed && age < PROBED_PATIENCE)) return;
      this.#abandon(now);
    } else if (this.#state !== 'waiting') return;
    this.#connect(now, probe.address);
    this.#isProbed = true;
  }

  stop(now: Instant): void {
    this.#enter(now, 'stopped');
    this.#deadline = undefined;
    this.#connection?.close(now, 0, 'done');
    this.#renewal.lost(now);
    this.#requests.failAll(now, 'stopped');
  }

  /** Runs what is due. */
  turn(now: Instant): void {
    if (this.#state === 'waiting' && this.#deadline !== undefined && this.#parts.owner.isRelayWanted()) {
      this.#deadline = earliest(this.#deadline, later(this.#since, RECONNECT_WANTED_CAP));
    }
    if (this.#deadline !== undefined && now >= this.#deadline) {
      if (this.#state === 'waiting') this.#attempt(now);
      else if (this.#state !== 'ready') this.#drop(now, 'the relay does not answer');
    }
    if (this.#state === 'ready' && this.#lifeSigns.check(now, this.#connection!) === 'gone') {
      this.#drop(now, 'the relay has gone silent');
    }
    this.#renewal.turn(now);
    if (this.#isProbing()) this.#probes.ask(now, this.#addresses);
    else if (this.#upgradeAt !== undefined && now >= this.#upgradeAt) {
      this.#upgradeAt = later(now, this.#upgradeWait);
      this.#probes.ask(now, this.#addresses);
    }
    this.#requests.turn(now);
  }

  nextTimeout(): Instant | undefined {
    const request = this.#requests.nextTimeout();
    const own = this.#state === 'ready' ? this.#lifeSigns.due : this.#isProbing() ? this.#probes.due : undefined;
    const upkeep = earliest(this.#upgradeAt, this.#renewal.nextTimeout());
    return earliest(earliest(this.#deadline, request), earliest(own, upkeep));
  }

  #isProbing(): boolean {
    const isAway = this.#state === 'waiting' || this.#state === 'connecting';
    return isAway && this.#isUnreachable && this.#parts.owner.isRelayWanted();
  }

  #attempt(now: Instant): void {
    this.#parts.owner.onRelayAttempt(now, this, this.#backoff.attempts);
    const known = this.#tcpAddress === undefined ? this.#addresses : [...this.#addresses, this.#tcpAddress];
    const address = known[this.#nextAddress % Math.max(1, known.length)];
    this.#nextAddress++;
    if (address === undefined) {
      this.#lastProblem = this.#noAddress;
      this.#wait(now);
      return;
    }
    this.#connect(now, address);
  }

  #connect(now: Instant, address: SocketAddress): void {
    this.#isProbed = false;
    this.#isOverTcp = address === this.#tcpAddress;
    this.#upgradeAt = undefined;
    this.#refusal = '';
    this.#parts.setRelay(address, this.#isOverTcp ? this.#tcpCredit : undefined);
    try {
      this.#connection = this.#parts.endpoint.connect(now, address, this.#parts.serverName, this);
    } catch (error) {
      this.#lastProblem = describeError(error);
      this.#wait(now);
      return;
    }
    this.#enter(now, 'connecting');
    const hasOthers = this.#addresses.length > 1 || this.#tcpAddress !== undefined;
    this.#deadline = later(now, hasOthers ? NEXT_ADDRESS : CONNECT_TIMEOUT);
  }

  onConnected(now: Instant, connection: QuicConnection): void {
    if (connection !== this.#connection) return;
    this.#deadline = later(this.#since, CONNECT_TIMEOUT);
    this.#enter(now, 'greeting');
    this.#control = this.sendHello(connection, false);
  }

  sendHello(connection: QuicConnection, resume: boolean): ControlStream {
    const control = connection.openControl();
    const { role, software, proof } = this.#parts;
    control.send(
      encodeMessage({
        type: 'hello',
        version: PROTOCOL_VERSION,
        role,
        software,
        capabilities: [],
        proof: proof(),
        ...(resume ? { resume } : {}),
      }),
    );
    return control;
  }

  connectBeside(now: Instant, handler: ConnectionHandler): QuicConnection {
    const { endpoint, serverName } = this.#parts;
    return endpoint.connect(now, this.#connection!.remote, serverName, handler);
  }

  adopt(connection: QuicConnection, control: ControlStream): void {
    this.#connection = connection;
    this.#control = control;
  }

  onControlMessage(now: Instant, bytes: Uint8Array): void {
    this.#message(now, bytes);
  }

  onPush(now: Instant, bytes: Uint8Array): void {
    this.#message(now, bytes);
  }

  #message(now: Instant, bytes: Uint8Array): void {
    const decoded = decodeMessage(FromRelay, bytes);
    if (!decoded.ok) return;
    const { message } = decoded;
    this.#lifeSigns.heard();
    if (message.type === 'hello') {
      if (this.#state === 'greeting') this.#ready(now, message.capabilities);
      return;
    }
    if (
      (message.type === 'registered' || message.type === 'opened' || message.type === 'error') &&
      message.id !== undefined
    ) {
      this.#requests.answered(now, message.id, message);
      return;
    }
    if (message.type === 'drain') {
      if (this.#isDraining) return;
      this.#isDraining = true;
      this.#refusal = 'the relay is about to stop';
      this.#lastProblem = this.#refusal;
    }
    if (message.type === 'error') this.#refusal = `${message.code}: ${message.message}`;
    else if (this.#state === 'ready') this.#parts.owner.onRelayMessage(now, this, message);
    else this.#early.push(message);
  }
  /** Pushes that overtook the relay's hello: streams have no order among each other. */
  readonly #early: FromRelay[] = [];

  #ready(now: Instant, capabilities: readonly string[]): void {
    this.#enter(now, 'ready');
    this.#deadline = undefined;
    this.#isUnreachable = false;
    this.#lastProblem = '';
    if (this.#isOverTcp) this.#upgradeAt = later(now, this.#upgradeWait);
    this.#renewal.ready(now, capabilities);
    this.#parts.owner.onRelayReady(now, this);
    for (const message of this.#early.splice(0)) this.#parts.owner.onRelayMessage(now, this, message);
  }

  onDatagrams(now: Instant, batch: DatagramBatch): void {
    this.#lifeSigns.heard();
    for (let i = 0; i < batch.count; i++) {
      const address = decodeObserved(batch.bytes, batch.table[i * 2]!, batch.table[i * 2 + 1]!);
      // Over TCP the relay sees a port of its own machine.
      if (address !== undefined && !this.#isOverTcp) this.#parts.owner.onObserved(now, this, address);
    }
  }

  onClosed(now: Instant, reason: CloseReason, connection: QuicConnection): void {
    if (connection !== this.#connection) return;
    this.#isUnreachable = reason.kind === 'timed-out' || reason.kind === 'reset';
    this.#lost(now, this.#refusal === '' ? closeText(reason, this.#parts.wall()) : this.#refusal);
  }

  #drop(now: Instant, reason: string): void {
    const connection = this.#connection;
    this.#isUnreachable = true;
    this.#lost(now, reason);
    connection?.close(now, 0, reason);
  }

  /** Ends an attempt for the sake of another. */
  #abandon(now: Instant): void {
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.close(now, 0, 'tried anew');
  }

  #lost(now: Instant, reason: string): void {
    const wasReady = this.#state === 'ready';
    this.#connection = undefined;
    this.#control = undefined;
    this.#early.length = 0;
    this.#lifeSigns.heard();
    this.#renewal.lost(now);
    if (this.#state === 'stopped') return;
    this.#lastProblem = reason;
    this.#requests.failAll(now, reason);
    if (wasReady) this.#parts.owner.onRelayLost(now, this, reason);
    this.#wait(now);
  }

  /**
   * The first attempt after a connection that worked for a while is made at once: a restarted relay is there already. One
   * that ended soon (two processes with one identity replace each other) waits, longer each time.
   */
  #wait(now: Instant): void {
    const worked = this.#state === 'ready' && elapsed(this.#since, now) >= SETTLED;
    const immediately = worked && !this.#isDraining;
    if (worked) this.#backoff.reset();
    if (worked && !this.#isOverTcp) this.#upgradeWait = UPGRADE_INTERVAL;
    this.#upgradeAt = undefined;
    this.#isDraining = false;
    this.#enter(now, 'waiting');
    if (!this.#isKept) this.#deadline = undefined;
    else this.#deadline = immediately ? now : later(now, this.#backoff.next(this.#parts.owner.isRelayWanted()));
  }

  #enter(now: Instant, state: RelayState): void {
    this.#state = state;
    this.#since = now;
  }
}
