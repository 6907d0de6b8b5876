/**
 * Why a connection ended, and the application close codes that this folder itself uses (RFC 9000 §20.2). Roles have their
 * own codes below 0x100.
 */

export type CloseKind =
  | 'local'
  | 'peer-application'
  | 'peer-transport'
  | 'transport'
  | 'reset'
  | 'timed-out'
  | 'version'
  | 'no-ids';

/** In the order of the crate's numbers, from 1. */
const KINDS: readonly CloseKind[] = [
  'local',
  'peer-application',
  'peer-transport',
  'transport',
  'reset',
  'timed-out',
  'version',
  'no-ids',
];

export interface CloseReason {
  readonly kind: CloseKind;
  /** Application or transport error code; 0 where there is none. 0x100 + alert for TLS (RFC 9001 §4.8). */
  readonly code: number;
  readonly text: string;
}

export const CloseCode = {
  done: 0,
  /** A certificate of either end has expired. */
  certificateExpired: 0x100,
  /** The certificate lacks the extended key usage of its role. */
  keyUsage: 0x101,
  /** A control message longer than allowed, or malformed framing. */
  framing: 0x102,
  /** More control messages than allowed. */
  messageRate: 0x103,
  /** A stream that this protocol does not have. */
  streamProtocol: 0x104,
  /** The server did not take the connection. */
  refused: 0x105,
  /** A pushed message longer than allowed. */
  pushTooLong: 0x106,
} as const;

export function closeReason(kind: number, code: number, text: string): CloseReason {
  return { kind: KINDS[kind - 1] ?? 'transport', code, text: text === '' ? describe(kind, code) : text };
}

function describe(kind: number, code: number): string {
  if (kind === 1 && code === CloseCode.certificateExpired) return 'a certificate has expired';
  return kind === 1 ? 'closed here' : (KINDS[kind - 1] ?? 'unknown');
}
