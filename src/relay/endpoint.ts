/** The relay's QUIC endpoint: what every relay connection has in common, and what strangers may cost. */
import { type Duration, Seconds, type WallTime } from '../base/time.js';
import { QuicEndpoint } from '../quic/endpoint.js';
import type { ServerOptions } from '../quic/options.js';
import { CONNECTION_ID_LIFETIME, RELAY_ALPN } from '../tunnel/messages.js';
import { CHANNELS_AT_ONCE, CHANNELS_PER_SECOND } from './node.js';
import { UNBIDDEN_PER_SECOND } from './node-connection.js';

/** A relay connection lives this long in silence (protocol §2); nodes keep theirs alive. */
const IDLE: Duration = Seconds(90);
/** Unproved handshakes in flight beyond which addresses must prove themselves by Retry (RFC 9000 §8.1.2). */
const RETRY_ABOVE = 100;
/** What a node may say altogether: its own words, and a connector's answer to each channel it is told of. */
const MESSAGES_PER_SECOND = UNBIDDEN_PER_SECOND + CHANNELS_PER_SECOND + CHANNELS_AT_ONCE;
/** Bytes of the reset key that make connection ids recognisable after a restart; the rest makes the reset tokens. */
const CONNECTION_ID_KEY = 8;

export interface RelayEndpointParts {
  readonly caPem: string;
  readonly certificatePem: string;
  readonly keyPem: string;
  /** 40 bytes or more, kept across restarts, so that a restarted relay can reset the connections of its nodes. */
  readonly resetKey: Uint8Array;
  readonly wall: WallTime;
  readonly accept: ServerOptions['accept'];
}

export function makeRelayEndpoint(parts: RelayEndpointParts): QuicEndpoint {
  return new QuicEndpoint({
    alpn: RELAY_ALPN,
    ca: parts.caPem,
    identity: { certificate: parts.certificatePem, key: parts.keyPem },
    wallTime: parts.wall,
    client: false,
    idleTimeout: IDLE,
    messagesPerSecond: MESSAGES_PER_SECOND,
    resetKey: parts.resetKey.slice(CONNECTION_ID_KEY),
    connectionIdKey: parts.resetKey.slice(0, CONNECTION_ID_KEY),
    connectionIdLifetime: CONNECTION_ID_LIFETIME,
    server: { accept: parts.accept, migration: true, retryAbove: RETRY_ABOVE },
  });
}
