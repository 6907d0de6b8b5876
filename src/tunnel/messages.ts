/**
 * The JSON control messages: between a node and its relay (relay connection, stream 0 and unidirectional streams) and
 * between agent and connector (stream 0 of a link). Framing is `length u32 · JSON` and belongs to the QUIC floor.
 *
 * Unknown fields are ignored, unknown types are answered by `error` when they carry an `id`, and an error is never answered.
 * Identities written in JSON are never believed: they come from certificates and proofs.
 */
import * as v from 'valibot';
import { type Duration, Minutes } from '../base/time.js';
import { decodeUtf8, encodeUtf8 } from '../base/utf8.js';
import { CANDIDATE_KINDS, MAX_CANDIDATES } from './punch/candidates.js';
import { TOKEN_LENGTH } from './punch/punch-frame.js';
import { NAT_EASES } from './punch-plan.js';
import { SERVICE_ID } from './service-id.js';

/** Version of both protocols; the ALPN names carry the same number. */
export const PROTOCOL_VERSION = 1;
export const RELAY_ALPN = 'sallyport-relay-1';
export const LINK_ALPN = 'sallyport-1';

/**
 * Capability of an end of a link: it takes IP packets whose TCP checksum is left open (docs/protocol.md). The packets of a link are
 * authenticated, so that a sum over each at both ends would say nothing more.
 */
export const OPEN_CHECKSUMS = 'open-checksums';

/** Either end of a relay connection gives the other new connection ids after this time: who watches the wire cannot follow it. */
export const CONNECTION_ID_LIFETIME: Duration = Minutes(5);

/** Capability of a relay: a node's new connection takes the place of the one before, and its channels go on (`hello {resume}`). */
export const RESUME = 'resume';

/** Services one `register` may hold, so that it fits into one message. */
export const MAX_SERVICES_PER_MESSAGE = 256;

/** Milliseconds until a round of punches that a `round` may ask for. */
const MAX_START_IN = 5000;

const text = (max: number) => v.pipe(v.string(), v.maxLength(max));
const hex = (digits: number) => v.pipe(v.string(), v.regex(new RegExp(`^[0-9a-f]{${digits}}$`)));
const count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));

const label = v.pipe(v.string(), v.regex(SERVICE_ID));
const channelId = hex(16);
const reason = text(200);

const Hello = v.object({
  type: v.literal('hello'),
  version: count,
  role: v.picklist(['agent', 'connector', 'relay']),
  software: text(100),
  capabilities: v.pipe(v.array(text(40)), v.maxLength(32)),
  proof: v.optional(v.unknown()),
  /** Node: its channels are to go on on this connection. Relay: they do. */
  resume: v.optional(v.boolean()),
});

const Register = v.object({
  type: v.literal('register'),
  id: count,
  services: v.pipe(v.array(v.object({ id: text(100) })), v.maxLength(MAX_SERVICES_PER_MESSAGE)),
});
/** The connector serves these no longer; links and other services stay. No answer. */
const Withdraw = v.object({ type: v.literal('withdraw'), services: Register.entries.services });
/** What became of one service of a `register`. */
export const REGISTRATION_STATUS = ['ok', 'invalid', 'denied', 'conflict'] as const;
const Registered = v.object({
  type: v.literal('registered'),
  id: count,
  services: v.array(
    v.object({
      id: text(100),
      status: v.picklist(REGISTRATION_STATUS),
      virtualIp4: v.optional(text(50)),
      virtualIp6: v.optional(text(50)),
    }),
  ),
});
const Open = v.object({ type: v.literal('open'), id: count, service: label, connector: v.optional(label) });
const Opened = v.object({ type: v.literal('opened'), id: count, channel: channelId, connector: label });
const Channel = v.object({ type: v.literal('channel'), channel: channelId, agent: label });
const Ready = v.object({ type: v.literal('ready'), channel: channelId });
const Close = v.object({ type: v.literal('close'), channel: channelId, reason });
const Drain = v.object({ type: v.literal('drain'), deadline: count, alternatives: v.array(text(300)) });
const Failure = v.object({ type: v.literal('error'), id: v.optional(count), code: text(60), message: text(500) });
const Policy = v.object({ type: v.literal('policy'), envelope: v.unknown() });
const Catalogue = v.object({
  type: v.literal('catalogue'),
  services: v.array(v.object({ id: label, available: v.boolean() })),
});

/** What a node may send to its relay. */
export const ToRelay = v.variant('type', [Hello, Register, Withdraw, Open, Ready, Close, Failure]);
export type ToRelay = v.InferOutput<typeof ToRelay>;
/** What a relay may send to a node. */
export const FromRelay = v.variant('type', [
  Hello,
  Registered,
  Opened,
  Channel,
  Close,
  Drain,
  Failure,
  Policy,
  Catalogue,
]);
export type FromRelay = v.InferOutput<typeof FromRelay>;
export type RegistrationStatus = (typeof REGISTRATION_STATUS)[number];

const LinkHello = v.object({
  type: v.literal('hello'),
  version: count,
  session: hex(32),
  link: count,
  proof: v.unknown(),
  capabilities: v.pipe(v.array(text(40)), v.maxLength(32)),
});
const Welcome = v.object({
  type: v.literal('welcome'),
  version: count,
  session: hex(32),
  resumed: v.boolean(),
  proof: v.unknown(),
  services: v.pipe(v.array(label), v.maxLength(4096)),
  innerMtu: v.pipe(v.number(), v.integer(), v.minValue(1280), v.maxValue(65535)),
  /** Absent from connectors that have none. */
  capabilities: v.optional(v.pipe(v.array(text(40)), v.maxLength(32)), []),
});
/** Where one end may be reached, and its own token: the one to be used towards it (32 hex digits). */
const Punch = v.object({
  type: v.literal('punch'),
  n: count,
  token: hex(TOKEN_LENGTH * 2),
  /** Whether the sender's NAT gives every destination another port; absent: not known. */
  strict: v.optional(v.boolean()),
  /** How easily a peer gets through the sender's NAT (docs/nat.md); absent: not known. */
  ease: v.optional(v.picklist(NAT_EASES)),
  /** The sender’s operator wants no direct links: those that there are end, once packets have left them. */
  off: v.optional(v.boolean()),
  candidates: v.pipe(
    v.array(
      v.object({
        kind: v.picklist(CANDIDATE_KINDS),
        address: text(45),
        port: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535)),
        priority: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 31 - 1)),
      }),
    ),
    v.maxLength(MAX_CANDIDATES),
  ),
});
/** Both ends begin to punch, the connector in `startIn` ms. */
const Round = v.object({
  type: v.literal('round'),
  n: count,
  startIn: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(MAX_START_IN)),
  /** Not the pairs that were told, but ports are to be guessed. */
  guess: v.optional(v.boolean(), false),
});
/** The link that carries the agent's packets from now on, by its number. */
const Active = v.object({ type: v.literal('active'), n: count, link: count, reason });
const Denied = v.object({ type: v.literal('denied'), service: text(100), reason });
const Services = v.object({ type: v.literal('services'), services: v.pipe(v.array(label), v.maxLength(4096)) });

/** What an agent may send on stream 0 of a link. */
export const ToConnector = v.variant('type', [LinkHello, Punch, Round, Active, Failure]);
export type ToConnector = v.InferOutput<typeof ToConnector>;
/** What a connector may send on stream 0 of a link. */
export const ToAgent = v.variant('type', [Welcome, Punch, Denied, Services, Failure]);
export type ToAgent = v.InferOutput<typeof ToAgent>;

/** Either a checked message, or why it is not one (with the request's id when it had one). */
export type Decoded<T> =
  | { readonly ok: true; readonly message: T }
  | { readonly ok: false; readonly id: number | undefined; readonly unknownType: boolean; readonly problem: string };

/** Decodes and checks one message; never throws. */
export function decodeMessage<T>(schema: v.GenericSchema<unknown, T>, bytes: Uint8Array): Decoded<T> {
  let value: unknown;
  try {
    value = JSON.parse(decodeUtf8(bytes));
  } catch {
    return { ok: false, id: undefined, unknownType: false, problem: 'not JSON' };
  }
  const result = v.safeParse(schema, value);
  if (result.success) return { ok: true, message: result.output };
  const fields = (typeof value === 'object' && value !== null ? value : {}) as { id?: unknown; type?: unknown };
  const issue = result.issues[0];
  const unknownType = issue.type === 'variant' && v.getDotPath(issue) === 'type';
  return {
    ok: false,
    id: typeof fields.id === 'number' ? fields.id : undefined,
    unknownType,
    problem: `${v.getDotPath(issue) ?? 'message'}: ${issue.message}`,
  };
}

export function encodeMessage(message: ToRelay | FromRelay | ToConnector | ToAgent): Uint8Array {
  return encodeUtf8(JSON.stringify(message));
}

/** A channel id in messages: 16 hex digits of its two words. */
export function formatChannel(high: number, low: number): string {
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0');
}

export function parseChannel(text: string): { high: number; low: number } {
  return { high: Number.parseInt(text.slice(0, 8), 16), low: Number.parseInt(text.slice(8), 16) };
}
