/**
 * A node that speaks the protocol word by word as a test wants it: real QUIC and real certificates, no rules of its own.
 */
import type { SocketAddress } from '../../src/base/address.js';
import { Counters } from '../../src/base/counters.js';
import { DROP_REASONS } from '../../src/base/drop.js';
import { earliest } from '../../src/base/time.js';
import type { Channel } from '../../src/node/link-channels.js';
import { makeNodeEndpoints, type NodeEndpoints, openNodeSockets } from '../../src/node/thread-setup.js';
import { Underlay } from '../../src/node/underlay.js';
import { READABLE } from '../../src/os/io.js';
import { Frame, putRelayed, RELAYED_HEADER, type Word64 } from '../../src/tunnel/frames.js';
import { parseChannel } from '../../src/tunnel/messages.js';
import type { Credentials, NodeCredentials } from './identities.js';
import { RogueConnection } from './rogue-connection.js';
import type { SimUdpSocket } from './sim-network.js';
import { DIRECT_OFF, SimHost, type Site } from './sim-nodes.js';

export interface RogueOptions {
  readonly v6?: string;
  readonly acceptsLinks?: boolean;
  readonly caPem?: string;
  /** What it shows on links, when that is not what it shows the relay. */
  readonly linkCredentials?: Credentials;
}

/** Those of an enrolled node, or some that were put together: then nobody has checked whose they are. */
type RogueCredentials = Credentials & Pick<NodeCredentials, 'proof'> & Partial<Pick<NodeCredentials, 'identity'>>;

export class RogueNode {
  readonly host: SimHost;
  readonly credentials: RogueCredentials;
  readonly udp: readonly SimUdpSocket[];
  readonly endpoints: Pick<NodeEndpoints, 'relay' | 'links'>;
  readonly drops = new Counters(DROP_REASONS);
  readonly underlay: Underlay;
  readonly relayAddress: SocketAddress;
  /** The present relay connection. */
  relay!: RogueConnection;
  /** Links that agents made to it. */
  readonly accepted: RogueConnection[] = [];
  /** Nonces of REVALIDATE frames that came. */
  readonly nonces: Word64[] = [];
  /** Inner packets of RELAYED frames that came, by the channel id's text. */
  readonly relayed: { readonly channel: string; readonly inner: Uint8Array }[] = [];
  /** True: every REVALIDATE is answered. */
  revalidates = false;
  readonly #site: Site;
  readonly #name: string;

  constructor(
    site: Site,
    credentials: RogueCredentials,
    relays: readonly SocketAddress[],
    v4: string,
    options: RogueOptions,
  ) {
    this.#site = site;
    this.credentials = credentials;
    this.host = new SimHost(site.clock, site.network, v4, options.v6);
    const { reactor } = this.host;
    this.udp = openNodeSockets(this.host.sockets, 0) as SimUdpSocket[];
    const family = options.v6 === undefined ? 4 : 6;
    this.relayAddress = relays.find((address) => address.ip.family === family)!;
    const { certificatePem, keyPem } = credentials;
    this.#name = site.operator.serverName('relay', 'r1');
    const data = {
      network: site.operator.network,
      name: credentials.name,
      policyKey: site.operator.policyKey.publicKey,
      policy: undefined,
      proof: credentials.proof,
      caPem: options.caPem ?? site.operator.caPem,
      certificatePem,
      keyPem,
      relays: ['r1'],
      port: 0,
      direct: DIRECT_OFF,
    };
    const accept = (): RogueConnection => {
      const link = new RogueConnection();
      this.accepted.push(link);
      return link;
    };
    const { linkCredentials = credentials } = options;
    const shown = { ...data, certificatePem: linkCredentials.certificatePem, keyPem: linkCredentials.keyPem };
    this.endpoints = {
      relay: makeNodeEndpoints(data, reactor, undefined).relay,
      links: makeNodeEndpoints(shown, reactor, options.acceptsLinks ? accept : undefined).links,
    };
    this.underlay = new Underlay(
      this.udp,
      this.endpoints.relay,
      this.endpoints.links,
      this.drops,
      {
        onRevalidate: (_now, nonce) => {
          this.nonces.push(nonce);
          if (this.revalidates) this.echo(nonce);
        },
        onRelayed: () => {},
        onProbeReply: () => {},
        onPunch: () => {},
      },
      1,
    );
    this.underlay.setRelay(0, this.relayAddress);
    for (const socket of this.udp) {
      socket.arrivals.push((_from, bytes) => {
        if (bytes[0] !== Frame.relayed) return;
        const channel = Buffer.from(bytes.subarray(1, RELAYED_HEADER)).toString('hex');
        this.relayed.push({ channel, inner: bytes.slice(RELAYED_HEADER) });
      });
    }
    this.udp.forEach((socket, index) => {
      reactor.watch(socket.fd, READABLE, () => {
        this.underlay.receive(reactor.now(), index);
      });
    });
    reactor.onTurn((now) => {
      this.endpoints.relay.process(now);
      this.endpoints.links.process(now);
      this.underlay.flush(now);
      return earliest(this.endpoints.relay.nextTimeout(), this.endpoints.links.nextTimeout());
    });
  }

  /** The socket that reaches the relay. */
  get socket(): SimUdpSocket {
    return this.udp.find((socket) => socket.local.ip.family === this.relayAddress.ip.family)!;
  }

  /** Begins a relay connection; says nothing on it. */
  dial(): RogueConnection {
    this.relay = new RogueConnection();
    const now = this.#site.clock.now;
    this.relay.connection = this.endpoints.relay.connect(now, this.relayAddress, this.#name, this.relay);
    this.host.reactor.wake();
    return this.relay;
  }

  hello(more: object = {}): void {
    this.relay.say({
      type: 'hello',
      version: 1,
      role: this.credentials.role,
      software: 'rogue',
      capabilities: [],
      proof: this.credentials.proof,
      ...more,
    });
    this.host.reactor.wake();
  }

  say(message: object | string): boolean {
    this.host.reactor.wake();
    return this.relay.say(message);
  }

  /** Answers a REVALIDATE on the relay connection. */
  echo(nonce: Word64): void {
    const bytes = new Uint8Array(9);
    const view = new DataView(bytes.buffer);
    bytes[0] = 3;
    view.setUint32(1, nonce.high);
    view.setUint32(5, nonce.low);
    this.relay.connection.sendDatagram(bytes);
    this.host.reactor.wake();
  }

  /** Sends one RELAYED frame whose inner packet looks like QUIC's short header. */
  relay1(channel: string, inner: Uint8Array, from?: SocketAddress): void {
    const { high, low } = parseChannel(channel);
    const bytes = new Uint8Array(RELAYED_HEADER + inner.length);
    putRelayed(bytes, 0, high, low);
    bytes.set(inner, RELAYED_HEADER);
    this.socket.sendRaw(this.relayAddress, bytes, from);
  }

  /** Registers a channel so that links on it work. */
  openChannel(channel: string): Channel {
    const { high, low } = parseChannel(channel);
    return this.underlay.channels.open(0, high, low)!;
  }

  /** Makes a link through a channel. */
  link(channel: Channel, serverName: string): RogueConnection {
    const link = new RogueConnection();
    link.connection = this.endpoints.links.connect(this.#site.clock.now, channel.address, serverName, link);
    this.host.reactor.wake();
    return link;
  }
}

/** A stand-in for a sealed QUIC packet: short header and `length` bytes that say who sent it. */
export function innerPacket(length: number, mark = 0): Uint8Array {
  const bytes = new Uint8Array(length).fill(mark);
  bytes[0] = 0x40;
  return bytes;
}
