/**
 * The states of a link of a session, the steps between them, and why one was made. `status`, metrics and events show these
 * words, so they are stable.
 *
 *   proving ──► handshaking ──► standby ◄──► active
 *                                  ▲  ╲       ╱  ▲
 *                                  ▼   ►suspect◄ ▼          every state ──► dead
 *
 * `active`: packets go out on it. `suspect`: something is wrong with it; when it is the one in use, packets go out as copies on
 * the best other link too.
 */

export const LINK_STATES = ['proving', 'handshaking', 'standby', 'active', 'suspect', 'dead'] as const;
export type ManagedState = (typeof LINK_STATES)[number];

export const LINK_REASONS = [
  /** The first steps of a link. */
  'punched',
  'handshake_done',
  /** Chosen by rank: tier, round trip, loss, family. */
  'best_rank',
  'lower_rtt',
  'less_loss',
  'only_link',
  /** Chosen because the agent says so (connector). */
  'told_by_agent',
  /** Suspicions. */
  'missed_heartbeat',
  'upload_unheard',
  'packet_loss',
  /** Left for another, or not chosen. */
  'lower_rank',
  'three_missed',
  'heavy_loss',
  'large_lost',
  'drained',
  'operator',
  /** Over again. */
  'recovered',
  /** Ends. */
  'silent',
  'closed',
] as const;
export type LinkReason = (typeof LINK_REASONS)[number];

const NEXT: Readonly<Record<ManagedState, readonly ManagedState[]>> = {
  proving: ['handshaking', 'dead'],
  handshaking: ['standby', 'dead'],
  standby: ['active', 'suspect', 'dead'],
  active: ['standby', 'suspect', 'dead'],
  suspect: ['standby', 'active', 'dead'],
  dead: [],
};

/** Whether a link may go from one state to the other. */
export function mayEnter(from: ManagedState, to: ManagedState): boolean {
  return NEXT[from].includes(to);
}

/** What a node counts about its links; `state_…` count steps into a state, `why_…` their reasons. */
export const LINK_COUNTERS = [
  'switches',
  'copies_out',
  'copies_over_limit',
  'copies_in',
  'beats_out',
  'beats_in',
  'illegal_steps',
  ...LINK_STATES.map((state) => `state_${state}` as const),
  ...LINK_REASONS.map((reason) => `why_${reason}` as const),
] as const;
export type LinkCounter = (typeof LINK_COUNTERS)[number];
