/**
 * Two endpoints, a simulated path between them, certificates, and handlers that write down what they are told. Everything
 * runs in virtual time.
 */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { ADDRESS_WORDS, SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { type Duration, type Instant, instantAt, later, Millis, type WallTime, wallAt } from '../../src/base/time.js';
import type {
  CloseOrder,
  CloseReason,
  ConnectionHandler,
  DatagramBatch,
  QuicConnection,
} from '../../src/quic/connection.js';
import type { ControlStream } from '../../src/quic/control-stream.js';
import { QuicEndpoint } from '../../src/quic/endpoint.js';
import type { Identity, QuicEndpointOptions, ServerOptions } from '../../src/quic/options.js';

x509.cryptoProvider.set(webcrypto as never);
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

/** 2026-01-01, when every test begins unless it says otherwise. */
export const WALL: WallTime = wallAt(Date.UTC(2026, 0, 1));
export const SERVER_NAME = 'server.test';
export const SERVER_ADDRESS = SocketAddress.parse('192.0.2.1:4433')!;
export const CLIENT_ADDRESS = SocketAddress.parse('198.51.100.7:50000')!;

export interface Authority {
  readonly pem: string;
  issue(
    name: string,
    usage: readonly ('client' | 'server')[],
    dates?: { from: WallTime; to: WallTime },
  ): Promise<Identity>;
}

const DAY = 86_400_000;

export async function authority(name: string): Promise<Authority> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: `CN=${name}`,
    notBefore: new Date(WALL - 365 * DAY),
    notAfter: new Date(WALL + 3650 * DAY),
    signingAlgorithm: ALGORITHM,
    keys: keys as webcrypto.CryptoKeyPair,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
    ],
  });
  let serial = 2;
  return {
    pem: root.toString('pem'),
    async issue(host, usage, dates = { from: wallAt(WALL - DAY), to: wallAt(WALL + 7 * DAY) }) {
      const leaf = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
      const ids = usage.map((role) => (role === 'client' ? CLIENT_AUTH : SERVER_AUTH));
      const certificate = await x509.X509CertificateGenerator.create({
        serialNumber: (serial++).toString(16).padStart(2, '0'),
        subject: `CN=${host}`,
        issuer: root.subject,
        notBefore: new Date(dates.from),
        notAfter: new Date(dates.to),
        signingAlgorithm: ALGORITHM,
        publicKey: leaf.publicKey as webcrypto.CryptoKey,
        signingKey: keys.privateKey as webcrypto.CryptoKey,
        extensions: [
          new x509.BasicConstraintsExtension(false),
          new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: host }]),
          ...(ids.length > 0 ? [new x509.ExtendedKeyUsageExtension(ids)] : []),
        ],
      });
      const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', leaf.privateKey)).toString('base64');
      const lines = der.replace(/.{64}/g, '$&\n');
      return {
        certificate: certificate.toString('pem'),
        key: `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`,
      };
    },
  };
}

export interface Certificates {
  readonly ca: Authority;
  readonly server: Identity;
  readonly client: Identity;
}

export async function certificates(): Promise<Certificates> {
  const ca = await authority('test');
  return { ca, server: await ca.issue(SERVER_NAME, ['server']), client: await ca.issue('client.test', ['client']) };
}

/** What programs/quic-file.mjs wants in a file. */
export async function quicKeys() {
  const { ca, server, client } = await certificates();
  return { ca: ca.pem, wallTime: WALL, server, client };
}

/** Writes down everything; datagrams are copied. */
export class Recorder implements ConnectionHandler {
  readonly connected: QuicConnection[] = [];
  readonly closed: CloseReason[] = [];
  readonly messages: Uint8Array[] = [];
  readonly pushes: Uint8Array[] = [];
  readonly datagrams: Uint8Array[] = [];
  readonly moves: string[] = [];
  datagramCount = 0;
  keepDatagrams = true;
  unblocked = 0;
  control: ControlStream | undefined;
  order: CloseOrder | undefined;

  onConnected(_now: Instant, connection: QuicConnection): void {
    this.connected.push(connection);
  }
  onClosed(_now: Instant, reason: CloseReason): void {
    this.closed.push(reason);
  }
  onDatagrams(_now: Instant, batch: DatagramBatch): void {
    this.datagramCount += batch.count;
    if (!this.keepDatagrams) return;
    for (let i = 0; i < batch.count; i++) {
      const offset = batch.table[i * 2]!;
      this.datagrams.push(batch.bytes.slice(offset, offset + batch.table[i * 2 + 1]!));
    }
  }
  onControlMessage(_now: Instant, bytes: Uint8Array): void {
    this.messages.push(bytes);
  }
  onControl(_now: Instant, stream: ControlStream): void {
    this.control = stream;
  }
  onPush(_now: Instant, bytes: Uint8Array): void {
    this.pushes.push(bytes);
  }
  onAddressChanged(_now: Instant, connection: QuicConnection): void {
    this.moves.push(connection.remote.toString());
  }
  onUnblocked(): void {
    this.unblocked++;
  }
  recheck(): CloseOrder | undefined {
    return this.order;
  }
}

/** What the path does to a packet: a delay, or undefined for "lost". */
export type Path = (bytes: Uint8Array, entropy: SeededEntropy) => Duration | undefined;

interface Flying {
  readonly at: Instant;
  readonly to: Side;
  readonly from: SocketAddress;
  readonly bytes: Uint8Array;
}

export interface Side {
  readonly endpoint: QuicEndpoint;
  readonly memory: Uint8Array;
  readonly memoryId: number;
  address: SocketAddress;
}

const RX_BYTES = 65_536;

/** Two endpoints and a path; `run` moves virtual time to whatever is due next. */
export class Net {
  now: Instant = instantAt(1_000);
  readonly entropy = new SeededEntropy(42);
  readonly server: Side;
  readonly client: Side;
  readonly accepted: Recorder[] = [];
  readonly flying: Flying[] = [];
  path: Path = () => Millis(5);
  /** Sees every packet that is sent, before the path. */
  tap: ((bytes: Uint8Array, to: Side) => void) | undefined;
  readonly #words = new Uint32Array(ADDRESS_WORDS);

  constructor(server: QuicEndpointOptions, client: QuicEndpointOptions) {
    this.server = side(new QuicEndpoint(server), SERVER_ADDRESS);
    this.client = side(new QuicEndpoint(client), CLIENT_ADDRESS);
  }

  /** Hands `bytes` to a side at once. */
  deliver(to: Side, bytes: Uint8Array, from: SocketAddress): void {
    to.memory.set(bytes);
    from.write(this.#words, 0);
    to.endpoint.queueRun(to.memoryId, 0, bytes.length, bytes.length, 0, this.#words, 0);
    to.endpoint.receive(this.now);
  }

  /** Processes a side and puts what it sends on the path. */
  pump(from: Side): void {
    from.endpoint.process(this.now);
    while (from.endpoint.transmit(this.now, 0, 40)) {
      const { length, segment } = from.endpoint.out;
      const destination = SocketAddress.read(from.endpoint.outAddress, 0);
      const to = destination.equals(this.server.address) ? this.server : this.client;
      for (let at = 0; at < length; at += segment) {
        const bytes = from.endpoint.tx.slice(at, Math.min(at + segment, length));
        this.tap?.(bytes, to);
        if (!destination.equals(to.address)) continue;
        const delay = this.path(bytes, this.entropy);
        if (delay !== undefined) this.#fly({ at: later(this.now, delay), to, from: from.address, bytes });
      }
    }
  }

  #fly(packet: Flying): void {
    let i = this.flying.length;
    while (i > 0 && this.flying[i - 1]!.at > packet.at) i--;
    this.flying.splice(i, 0, packet);
  }

  /** Runs until `span` has passed. */
  run(span: Duration): void {
    const end = later(this.now, span);
    for (;;) {
      this.pump(this.client);
      this.pump(this.server);
      const next = Math.min(
        this.flying[0]?.at ?? Number.POSITIVE_INFINITY,
        this.client.endpoint.nextTimeout() ?? Number.POSITIVE_INFINITY,
        this.server.endpoint.nextTimeout() ?? Number.POSITIVE_INFINITY,
      );
      if (next > end) break;
      this.now = instantAt(Math.max(next, this.now));
      while (this.flying.length > 0 && this.flying[0]!.at <= this.now) {
        const packet = this.flying.shift()!;
        this.deliver(packet.to, packet.bytes, packet.from);
      }
    }
    this.now = end;
  }

  connect(name = SERVER_NAME): { handler: Recorder; connection: QuicConnection } {
    const handler = new Recorder();
    const connection = this.client.endpoint.connect(this.now, this.server.address, name, handler);
    return { handler, connection };
  }

  /** A finished handshake, both ends. */
  establish(): { client: QuicConnection; server: QuicConnection; clientSide: Recorder; serverSide: Recorder } {
    const { handler, connection } = this.connect();
    const before = this.accepted.length;
    this.run(Millis(100));
    const serverSide = this.accepted[before];
    const server = serverSide?.connected[0];
    if (server === undefined || connection.state !== 'open')
      throw new Error(`no handshake: ${handler.closed[0]?.text}`);
    return { client: connection, server, clientSide: handler, serverSide: serverSide! };
  }
}

export function side(endpoint: QuicEndpoint, address: SocketAddress): Side {
  const memory = new Uint8Array(RX_BYTES);
  return { endpoint, memory, memoryId: endpoint.attachReceive(memory), address };
}

/** A net with a server and a client of one CA; `server`, `client` change the options. */
export function makeNet(
  certs: Certificates,
  change: {
    server?: Partial<Omit<QuicEndpointOptions, 'server'>> & { server?: Partial<ServerOptions> };
    client?: Partial<QuicEndpointOptions>;
  } = {},
): Net {
  const common = { alpn: 'sallyport-test', ca: certs.ca.pem, wallTime: WALL };
  const net: Net = new Net(
    {
      ...common,
      identity: certs.server,
      client: false,
      ...change.server,
      server: {
        accept: () => {
          const recorder = new Recorder();
          net.accepted.push(recorder);
          return recorder;
        },
        ...change.server?.server,
      },
    },
    { ...common, identity: certs.client, client: true, ...change.client },
  );
  return net;
}

/** Puts `payloads` into the outbound arena and writes them; returns how many were queued. */
export function write(
  net: Net,
  endpoint: QuicEndpoint,
  connection: QuicConnection,
  payloads: readonly Uint8Array[],
): number {
  let at = 0;
  payloads.forEach((payload, i) => {
    endpoint.outbound.arena.bytes.set(payload, at);
    endpoint.outbound.table[i * 2] = at;
    endpoint.outbound.table[i * 2 + 1] = payload.length;
    at += (payload.length + 3) & ~3;
  });
  return connection.writeDatagrams(net.now, payloads.length);
}

export const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
export const utf8 = (value: string): Uint8Array => new TextEncoder().encode(value);
