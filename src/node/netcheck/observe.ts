/**
 * Looks at the NAT before this machine through one or more relay addresses of one family, from a fresh socket, so that what it lets
 * in is not yet what was asked for.
 *
 *   each address   PROBE ─► its other port? ─► PROBE "from the other port" (never asked so far) ─► PROBE to the other port
 *   then           a second socket ─► the first one's public address        does it come back in?
 */
import { SocketAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import { type Duration, Millis, scale } from '../../base/time.js';
import { classifyNat, type NatClass, type ProbeOutcome } from '../../tunnel/nat-class.js';
import { type Answered, ProbeSocket } from './probe-socket.js';

/** An answer that takes longer is of no use for a direct link either. */
const PATIENCE: Duration = Millis(1000);
/** Shortest wait for what may well be filtered; three round trips where those are longer. */
const FILTERED_PATIENCE: Duration = Millis(300);
/** Addresses of one family that are looked at: two tell all there is to tell. */
const MOST_ADDRESSES = 2;

export interface RelayLatency {
  readonly address: SocketAddress;
  /** Of the quickest answer; undefined: none came. */
  readonly rtt: Duration | undefined;
}

export interface Observation {
  readonly nat: NatClass;
  readonly relays: readonly RelayLatency[];
  /** Whether any relay has a second port. */
  readonly hasOtherPort: boolean;
}

/** @param relays of one family, at least one. Undefined where this machine has no way to them. */
export async function observeNat(
  relays: readonly SocketAddress[],
  entropy: Entropy,
  isBackground: boolean,
): Promise<Observation | undefined> {
  const socket = await ProbeSocket.open(relays[0]!, entropy, isBackground);
  if (socket === undefined) return undefined;
  try {
    const outcomes: ProbeOutcome[] = [];
    const latencies: RelayLatency[] = [];
    let hasOtherPort = false;
    for (const relay of relays.slice(0, MOST_ADDRESSES)) {
      const seen = await lookThrough(socket, relay);
      outcomes.push(...seen.outcomes);
      latencies.push({ address: relay, rtt: seen.rtt });
      hasOtherPort ||= seen.hasOtherPort;
    }
    const observed = outcomes.find((one) => one.observed !== undefined)?.observed;
    const isTranslated = observed !== undefined && !observed.equals(socket.local);
    const hairpin = isTranslated
      ? await turnsBack(socket, observed, await ProbeSocket.open(relays[0]!, entropy, isBackground), relays[0]!)
      : undefined;
    return { nat: classifyNat({ local: socket.local, outcomes, hairpin }), relays: latencies, hasOtherPort };
  } finally {
    socket.close();
  }
}

async function lookThrough(
  socket: ProbeSocket,
  relay: SocketAddress,
): Promise<{
  readonly outcomes: readonly ProbeOutcome[];
  readonly rtt: Duration | undefined;
  readonly hasOtherPort: boolean;
}> {
  const first = await socket.ask(relay, { patience: PATIENCE });
  const outcomes: ProbeOutcome[] = [{ asked: relay, fromOtherPort: false, observed: first?.observed }];
  if (first === undefined || first.otherPort === 0) return { outcomes, rtt: first?.rtt, hasOtherPort: false };
  const patience = Math.max(FILTERED_PATIENCE, scale(first.rtt, 3)) as Duration;
  const through = await socket.ask(relay, { fromOtherPort: true, patience, attempts: 3 });
  // A relay that answers from the port it was asked at tells nothing about filtering.
  if (through === undefined || through.answeringPort === first.otherPort) {
    outcomes.push({ asked: relay, fromOtherPort: true, observed: through?.observed });
  }
  const other = new SocketAddress(relay.ip, first.otherPort);
  const second = await socket.ask(other, { patience });
  outcomes.push({ asked: other, fromOtherPort: false, observed: second?.observed });
  return { outcomes, rtt: quickest([first, through, second]), hasOtherPort: true };
}

function quickest(answers: readonly (Answered | undefined)[]): Duration {
  return Math.min(...answers.map((one) => one?.rtt ?? Number.POSITIVE_INFINITY)) as Duration;
}

async function turnsBack(
  socket: ProbeSocket,
  address: SocketAddress,
  other: ProbeSocket | undefined,
  relay: SocketAddress,
): Promise<boolean | undefined> {
  if (other === undefined) return undefined;
  try {
    // Filters that go by what was asked would hide a hairpin: the first one asks the second's public address, too.
    const mapped = await other.ask(relay, { patience: PATIENCE });
    if (mapped === undefined) return undefined;
    const [there, back] = await Promise.all([
      other.turnsTo(socket, address, FILTERED_PATIENCE),
      socket.turnsTo(other, mapped.observed, FILTERED_PATIENCE),
    ]);
    return there || back;
  } finally {
    other.close();
  }
}
