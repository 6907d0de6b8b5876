/**
 * The relay: admits nodes, registers services, opens channels, pushes policy, and has the forwarder move packets.
 *
 * Order in a turn: `handleBatch` for every batch received, then `turn` once; `turn` runs timers, lets the endpoint work and
 * fills the sockets. Everything is synchronous; state changes are told through `events`.
 */
import { type IpAddress, SocketAddress } from '../base/address.js';
import { Counters } from '../base/counters.js';
import type { Crypto } from '../base/crypto.js';
import { DROP_REASONS, type DropName, type DropReason } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import { SallyportError } from '../base/error.js';
import { type Duration, earliest, elapsed, type Instant, later, Seconds, type WallTime } from '../base/time.js';
import type { PeerIdentity } from '../identity/peer-identity.js';
import type { UdpSocket } from '../os/io.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import { type Identity, verifyProof } from '../policy/proof.js';
import type { CloseReason, QuicConnection } from '../quic/connection.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { CloseCode } from '../tunnel/close-codes.js';
import type { Word64 } from '../tunnel/frames.js';
import { PROTOCOL_VERSION, parseChannel, RESUME, type ToRelay } from '../tunnel/messages.js';
import { ChannelTable } from './channels.js';
import { Drain } from './drain.js';
import { type FormerNode, FormerNodes } from './former-nodes.js';
import { Forwarder } from './forwarder.js';
import { hidingAddress } from './hidden.js';
import type { RelayLimits } from './limits.js';
import { nodeKey, type RelayNode } from './node.js';
import { type ConnectionOwner, NodeConnection } from './node-connection.js';
import { Opener } from './opener.js';
import { ProbeAnswers } from './probe-answers.js';
import { Registry } from './registry.js';

/** How often idle channels are looked for and connectors' life signs are taken. */
const SWEEP_INTERVAL = Seconds(5);
/** A node's former connection is closed by then: nodes do it themselves, a moment after they have another. */
const FORMER_TIME = Seconds(10);
/** Relay connections accepted at once, greeting ones included. */
const MAX_CONNECTIONS = 20_000;

/** What the relay reports; the driver logs and counts it. */
export type RelayEvent =
  | {
      readonly kind: 'node-connected' | 'node-replaced' | 'node-resumed';
      readonly node: string;
      readonly address: string;
    }
  | { readonly kind: 'node-refused'; readonly node: string; readonly code: string }
  | { readonly kind: 'node-lost'; readonly node: string; readonly reason: string }
  | { readonly kind: 'node-moved'; readonly node: string; readonly address: string }
  /** Every node is seen from this one private address; told once. */
  | { readonly kind: 'nodes-hidden'; readonly address: string }
  /** The second port could not be had: NATs before nodes are not classified. */
  | { readonly kind: 'no-probe-port'; readonly port: number; readonly problem: string }
  /** Every node has been told that the relay stops; how each connection ends is not told. */
  | { readonly kind: 'relay-stops'; readonly nodes: number }
  /** After `drain`, once: the process may end. */
  | { readonly kind: 'drained'; readonly channels: number }
  | { readonly kind: 'service'; readonly node: string; readonly service: string; readonly status: string }
  | {
      readonly kind: 'channel-opened' | 'channel-closed';
      readonly agent: string;
      readonly connector: string;
      readonly reason: string;
    }
  | { readonly kind: 'open-refused'; readonly agent: string; readonly service: string; readonly code: string };

export interface RelayParts {
  readonly sockets: readonly UdpSocket[];
  /** Second ports that answer PROBEs only, at most one per address family. */
  readonly probeSockets: readonly UdpSocket[];
  readonly endpoint: QuicEndpoint;
  readonly policy: PolicyKeeper;
  readonly policyKey: Uint8Array;
  readonly network: string;
  readonly name: string;
  readonly crypto: Crypto;
  readonly entropy: Entropy;
  readonly wall: () => WallTime;
  readonly parseCertificate: (der: Uint8Array) => PeerIdentity;
  readonly software: string;
  readonly limits: RelayLimits;
  readonly onEvent: (event: RelayEvent) => void;
}

export interface RelayCounts {
  admitted: number;
  replaced: number;
  refused: number;
  opened: number;
  openRefused: number;
}

export class RelayCore implements ConnectionOwner {
  readonly drops: Counters<DropName>;
  readonly counts: RelayCounts = { admitted: 0, replaced: 0, refused: 0, opened: 0, openRefused: 0 };
  readonly registry: Registry;
  readonly channels: ChannelTable;
  readonly forwarder: Forwarder;
  readonly probes: ProbeAnswers;
  readonly draining: Drain;
  readonly #parts: RelayParts;
  readonly #opener: Opener;
  readonly #greeting = new Set<NodeConnection>();
  readonly #former = new FormerNodes();
  #hiddenBy: IpAddress | undefined;
  #toldHidden = false;
  #connections = 0;
  #isStopping = false;
  #nextSweep: Instant = 0 as Instant;

  constructor(parts: RelayParts) {
    this.#parts = parts;
    this.drops = new Counters(DROP_REASONS);
    this.registry = new Registry(parts.limits);
    this.channels = new ChannelTable(parts.entropy, parts.limits.channel);
    this.draining = new Drain(this.channels);
    this.probes = new ProbeAnswers(parts.sockets, parts.probeSockets, this.drops);
    const { sockets, endpoint, entropy } = parts;
    this.forwarder = new Forwarder(sockets, endpoint, this.channels, this.drops, entropy, this.probes);
    this.#opener = new Opener({
      registry: this.registry,
      channels: this.channels,
      counts: this.counts,
      policy: parts.policy,
      wall: parts.wall,
      isDraining: () => this.draining.isOn,
      onEvent: parts.onEvent,
    });
  }

  /** To be given to the endpoint as its `accept`: a connection whose certificate has been verified. */
  accept(now: Instant, quic: QuicConnection): NodeConnection | undefined {
    if (this.#connections >= MAX_CONNECTIONS) {
      quic.close(now, CloseCode.refused, 'too many connections');
      return undefined;
    }
    let certificate: PeerIdentity;
    try {
      certificate = this.#parts.parseCertificate(quic.peerCertificates[0] ?? new Uint8Array());
    } catch {
      quic.close(now, CloseCode.refused, 'certificate');
      return undefined;
    }
    const connection = new NodeConnection(now, quic, certificate, this);
    this.#connections++;
    this.#greeting.add(connection);
    return connection;
  }

  /** Handles a batch of `entries` that socket `index` has just received; those of the second ports follow the others. */
  handleBatch(now: Instant, index: number, entries: number): void {
    if (index < this.#parts.sockets.length) this.forwarder.handleBatch(now, index, entries);
    else this.probes.handleBatch(now, index, entries);
  }

  /** Runs what is due; returns when it wants to run again. */
  turn(now: Instant): Instant | undefined {
    this.#parts.endpoint.process(now);
    // Guarded, here and below: an iterator for every turn is garbage on the packet path.
    if (this.#greeting.size > 0) this.#endSilent(now);
    this.#opener.expire(now);
    if (now >= this.#nextSweep) {
      this.#sweep(now);
      this.#nextSweep = later(now, SWEEP_INTERVAL);
    }
    this.#former.take(now, (address, local) => this.forwarder.tellFormer(address, local));
    if (this.draining.isOver(now)) this.#parts.onEvent({ kind: 'drained', channels: this.channels.size });
    this.forwarder.flushEndpoint(now);
    this.probes.turn(now);
    const greeting = this.#greeting.size === 0 ? undefined : this.#greeting.values().next().value?.deadline;
    return earliest(
      earliest(this.#parts.endpoint.nextTimeout(), greeting),
      earliest(
        earliest(this.#opener.deadline, this.#nextSweep),
        earliest(earliest(this.draining.due, this.#former.due), this.probes.due),
      ),
    );
  }

  /** Closes the connections that have not said who they are in time. */
  #endSilent(now: Instant): void {
    for (const connection of this.#greeting) {
      if (connection.deadline > now) break;
      connection.close(now, CloseCode.timeout, 'no hello');
      this.#greeting.delete(connection);
    }
  }

  onHello(now: Instant, connection: NodeConnection, hello: Extract<ToRelay, { type: 'hello' }>): void {
    const identity = this.#identify(connection.certificate, hello);
    const admission = this.registry.admit(now, identity, connection, hello.resume === true);
    switch (admission.outcome) {
      case 'name-taken':
        throw this.#refusal(connection.certificate, 'NAME_TAKEN', 'another node uses this name');
      case 'superseded':
        throw this.#refusal(connection.certificate, 'KEY_SUPERSEDED', 'a newer key of this node is in use');
      case 'admitted':
        this.#admit(now, connection, admission.node, undefined);
        break;
      case 'replaced':
        this.#admit(now, connection, admission.node, admission.older);
        break;
      case 'resumed':
        this.#resume(now, connection, admission.node);
        break;
    }
  }

  /** Who says hello, by certificate and proof. @throws SallyportError when it is nobody to be let in. */
  #identify(certificate: PeerIdentity, hello: Extract<ToRelay, { type: 'hello' }>): Identity {
    const { policy, policyKey, network, crypto, wall } = this.#parts;
    if (hello.version !== PROTOCOL_VERSION) {
      throw this.#refusal(certificate, 'VERSION', `this relay speaks version ${PROTOCOL_VERSION}`);
    }
    if (hello.role !== certificate.role || certificate.role === 'relay') {
      throw this.#refusal(certificate, 'ROLE_MISMATCH', 'the role differs from the certificate');
    }
    if (this.draining.isOn) throw this.#refusal(certificate, 'DRAINING', 'this relay is about to stop');
    const { view } = policy;
    if (view === undefined || !policy.admits(wall())) {
      throw this.#refusal(certificate, 'POLICY_EXPIRED', 'the policy admits nobody now');
    }
    let identity: Identity;
    try {
      const { revocations } = view;
      identity = verifyProof(crypto, policyKey, network, hello.proof, certificate.spki, { revocations });
    } catch (error) {
      const code = error instanceof SallyportError ? error.code : 'PROOF_MALFORMED';
      throw this.#refusal(certificate, code, 'the enrolment proof does not hold');
    }
    if (identity.role !== certificate.role || identity.name !== certificate.name || certificate.network !== network) {
      throw this.#refusal(certificate, 'IDENTITY_MISMATCH', 'certificate and proof name different nodes');
    }
    return identity;
  }

  #refusal(certificate: PeerIdentity, code: string, message: string): SallyportError {
    this.counts.refused++;
    this.#parts.onEvent({ kind: 'node-refused', node: nodeKey(certificate.role, certificate.name), code });
    return new SallyportError('peer', code, message);
  }

  #admit(now: Instant, connection: NodeConnection, node: RelayNode, older: RelayNode | undefined): void {
    this.#greeting.delete(connection);
    connection.open(node);
    if (older !== undefined) {
      this.counts.replaced++;
      this.#closeChannels(older, 'node reconnected');
      this.forwarder.forgetNode(older);
      older.connection.close(now, CloseCode.replaced, 'replaced by a newer connection');
    }
    this.counts.admitted++;
    const from = connection.quic.remote;
    this.forwarder.placeNode(node, from);
    this.#parts.onEvent({
      kind: older === undefined ? 'node-connected' : 'node-replaced',
      node: node.key,
      address: from.toString(),
    });
    this.#greet(connection, false);
    connection.tellObserved(from);
    this.#pushPolicy(node);
    if (older !== undefined && older.services.size > 0) this.#pushCatalogues();
    else if (node.identity.role === 'agent') this.#pushCatalogue(node);
  }

  /** The node goes on on this connection, as it is: channels, services, and where its packets go. */
  #resume(now: Instant, connection: NodeConnection, node: RelayNode): void {
    this.#greeting.delete(connection);
    connection.open(node);
    this.#endFormer(now, node);
    node.former = { connection: node.connection, since: now };
    node.connection = connection;
    node.heard = now;
    this.#parts.onEvent({ kind: 'node-resumed', node: node.key, address: connection.quic.remote.toString() });
    this.#greet(connection, true);
    connection.tellObserved(node.forwardingAddress);
    this.onMoved(now, node);
    // What the connection before has not delivered any more.
    this.#pushPolicy(node);
    if (node.identity.role === 'agent') this.#pushCatalogue(node);
  }

  #greet(connection: NodeConnection, isResumed: boolean): void {
    connection.send({
      type: 'hello',
      version: PROTOCOL_VERSION,
      role: 'relay',
      software: this.#parts.software,
      capabilities: [RESUME],
      ...(isResumed ? { resume: true } : {}),
    });
  }

  #endFormer(now: Instant, node: RelayNode): void {
    const { former } = node;
    node.former = undefined;
    former?.connection.close(now, CloseCode.replaced, 'replaced by a newer connection');
  }

  isAwaited(node: RelayNode, message: ToRelay): boolean {
    return message.type === 'ready' && this.#opener.isAwaited(node, parseChannel(message.channel));
  }

  onMessage(
    now: Instant,
    connection: NodeConnection,
    node: RelayNode,
    message: Exclude<ToRelay, { type: 'hello' }>,
  ): void {
    node.heard = now;
    switch (message.type) {
      case 'register':
        this.#register(connection, node, message);
        break;
      case 'withdraw':
        for (const { id } of message.services) node.services.delete(id);
        this.#pushCatalogues();
        break;
      case 'open':
        this.#opener.open(now, node, message);
        break;
      case 'ready':
        this.#opener.ready(now, node, parseChannel(message.channel));
        break;
      case 'close': {
        const { high, low } = parseChannel(message.channel);
        const side = this.channels.find(high, low);
        if (side?.node === node) this.#opener.close(side, message.reason, node);
        break;
      }
      case 'error':
        break;
    }
  }

  #register(connection: NodeConnection, node: RelayNode, message: Extract<ToRelay, { type: 'register' }>): void {
    const view = this.#parts.policy.view!;
    const services = message.services.map(({ id }) => {
      const entry = view.service(id)?.entry;
      if (entry === undefined) return { id, status: 'invalid' as const };
      if (node.identity.role !== 'connector' || !view.connectorMay(node.identity.name, id)) {
        return { id, status: 'denied' as const };
      }
      node.services.add(id);
      return {
        id,
        status: 'ok' as const,
        ...(entry.virtualIp4 === undefined ? {} : { virtualIp4: entry.virtualIp4 }),
        ...(entry.virtualIp6 === undefined ? {} : { virtualIp6: entry.virtualIp6 }),
      };
    });
    for (const { id, status } of services)
      this.#parts.onEvent({ kind: 'service', node: node.key, service: id, status });
    connection.send({ type: 'registered', id: message.id, services });
    this.#pushCatalogues();
  }

  onRevalidated(now: Instant, node: RelayNode, nonce: Word64): void {
    for (const asker of [node, ...node.channels]) {
      if (this.forwarder.revalidated(node, asker, nonce.high, nonce.low)) {
        node.heard = now;
        node.connection.tellObserved(node.forwardingAddress);
        this.#parts.onEvent({ kind: 'node-moved', node: node.key, address: node.forwardingAddress.toString() });
        return;
      }
    }
  }

  onMoved(now: Instant, node: RelayNode): void {
    const { remote } = node.connection.quic;
    if (!remote.matches(node.forwarding, 0)) this.forwarder.askToMove(now, node, remote);
  }

  onClosed(now: Instant, connection: NodeConnection, reason: CloseReason): void {
    this.#connections--;
    this.#greeting.delete(connection);
    const node = connection.node;
    if (node?.former?.connection === connection) node.former = undefined;
    if (node !== undefined && node.connection !== connection) return;
    if (node !== undefined) this.#endFormer(now, node);
    // A thousand nodes that are told goodbye are no thousand losses, and have nobody left to be told of.
    if (this.#isStopping || node === undefined || !this.registry.remove(node)) return;
    this.forwarder.forgetNode(node);
    this.#parts.onEvent({ kind: 'node-lost', node: node.key, reason: reason.text });
    this.#closeChannels(node, `${node.identity.role} gone`);
    if (node.services.size > 0) this.#pushCatalogues();
  }

  countDrop(reason: DropReason): void {
    this.drops.values[reason]!++;
  }

  /**
   * The keeper holds a new policy: nodes, services and channels it no longer allows end, the others are told.
   */
  policyChanged(now: Instant): void {
    const view = this.#parts.policy.view;
    if (view === undefined) return;
    for (const node of [...this.registry.nodes]) {
      if (view.isRevoked(node.identity.invitationId)) node.connection.close(now, CloseCode.policy, 'revoked');
      for (const id of node.services) if (!view.connectorMay(node.identity.name, id)) node.services.delete(id);
      for (const side of [...node.channels]) {
        if (node.identity.role === 'agent' && !this.#opener.allowed(side))
          this.#opener.close(side, 'policy', undefined);
      }
      this.#pushPolicy(node);
    }
    this.#pushCatalogues();
  }

  /** Where the nodes are, for `tellFormer` of the next process. */
  whereNodesAre(): FormerNode[] {
    return Array.from(this.registry.nodes, (node) => ({
      address: node.forwardingAddress.toString(),
      local: SocketAddress.read(node.local, 0).toString(),
    }));
  }

  /** Nodes of a process before this one, which was killed: they are told that it is back. */
  tellFormer(now: Instant, nodes: readonly FormerNode[]): void {
    this.#former.add(now, nodes);
  }

  /** The one private address that all nodes are seen from, when it is not theirs. */
  get hiddenBy(): IpAddress | undefined {
    return this.#hiddenBy;
  }

  /** Tells every node that the relay will be gone after `span` at the latest; the event `drained` says when it may be. */
  drain(now: Instant, span: Duration): void {
    const relays = this.#parts.policy.signed?.document.relays ?? [];
    const others = relays.map(({ name }) => name).filter((name) => name !== this.#parts.name);
    const message = this.draining.begin(now, span, others);
    for (const node of this.registry.nodes) node.connection.send(message);
  }

  /** Closes every connection; the driver flushes and stops. */
  shutdown(now: Instant): void {
    this.#isStopping = true;
    this.#parts.onEvent({ kind: 'relay-stops', nodes: this.registry.size });
    for (const node of this.registry.nodes) node.connection.close(now, CloseCode.shutdown, 'relay stops');
    for (const connection of this.#greeting) connection.close(now, CloseCode.shutdown, 'relay stops');
    this.#parts.endpoint.process(now);
    this.forwarder.flushEndpoint(now);
  }

  #closeChannels(node: RelayNode, reason: string): void {
    for (const side of [...node.channels]) this.#opener.close(side, reason, node);
  }

  #pushPolicy(node: RelayNode): void {
    const envelope = this.#parts.policy.signed?.envelope;
    if (envelope !== undefined) node.connection.push({ type: 'policy', envelope });
  }

  #pushCatalogues(): void {
    for (const node of this.registry.nodes) if (node.identity.role === 'agent') this.#pushCatalogue(node);
  }

  #pushCatalogue(node: RelayNode): void {
    const services = this.#parts.policy
      .view!.servicesFor(node.identity)
      .map(({ id }) => ({ id, available: this.registry.serving(id).length > 0 }));
    node.connection.push({ type: 'catalogue', services });
  }

  #sweep(now: Instant): void {
    for (const side of this.channels.idle(now)) this.#opener.close(side, 'idle', undefined);
    for (const node of this.registry.nodes) {
      this.onMoved(now, node);
      if (node.former !== undefined && elapsed(node.former.since, now) >= FORMER_TIME) this.#endFormer(now, node);
      if (node.identity.role !== 'connector') continue;
      const silent = node.connection.quic.silentFor(now);
      if (silent < elapsed(node.heard, now)) node.heard = (now - silent) as Instant;
    }
    this.#hiddenBy = hidingAddress(this.registry.nodes);
    if (this.#hiddenBy === undefined || this.#toldHidden) return;
    this.#toldHidden = true;
    this.#parts.onEvent({ kind: 'nodes-hidden', address: this.#hiddenBy.toString() });
  }
}
