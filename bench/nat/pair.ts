/**
 * One pair of NATs: a network of its own with the real programs, a first packet through the relay, and whether and when the session
 * becomes direct.
 */
import { type Duration, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { type AgentThreadStatus, Network } from '../../test/e2e/network.js';
import { ADDRESSES, type Attachment } from '../../test/lab/topology.js';

/** `none`: a public address without NAT or firewall; the others as test/lab/nat.ts makes them, for IPv4. */
export const NAT_KINDS = ['none', 'open', 'moderate', 'strict'] as const;
export type PairKind = (typeof NAT_KINDS)[number];

export interface PairResult {
  readonly path: 'direct' | 'relay';
  /** From the start of the first packet to its answer, in milliseconds: the session is made in it. */
  readonly firstAnswer: number;
  /** From the same start to when the session was seen direct, in milliseconds. */
  readonly direct: number | undefined;
  /** What the agent says of its direct way. */
  readonly reason: string;
  /** PUNCHes that the agent has sent. */
  readonly punches: number;
}

/** How long a pair has to get direct: two rounds, what lies between, and the guessing of ports after them. */
const PATIENCE: Duration = Seconds(20);
const POLL: Duration = Millis(20);

export async function runPair(user: PairKind, service: PairKind): Promise<PairResult> {
  const network = await Network.make({
    path: 'auto',
    topology: { user: attachment(user), service: attachment(service), serviceClosed: false },
    services: { host: `icmp://${ADDRESSES.backend.v4}` },
  });
  try {
    return await becomesDirect(network);
  } finally {
    await network.destroy();
  }
}

/** Sends a first packet and waits for the session to become direct, or for the patience to end. */
export async function becomesDirect(network: Network, patience = PATIENCE): Promise<PairResult> {
  const { v4 } = await network.virtual('host');
  const start = performance.now();
  await network.topology.user.exec(['ping', '-c', '1', '-W', '5', v4]);
  const firstAnswer = performance.now() - start;
  const deadline = start + toMillis(patience);
  for (;;) {
    const status = await network.agent.status<AgentThreadStatus>();
    const [session] = status.sessions;
    const at = performance.now();
    const path = session?.link?.via === 'direct' ? 'direct' : 'relay';
    if (path === 'direct' || at > deadline) {
      const punches = status.counters['punch.sent'] ?? 0;
      const direct = path === 'direct' ? at - start : undefined;
      return { path, firstAnswer, direct, reason: session?.direct ?? 'no session', punches };
    }
    await new Promise((resolve) => setTimeout(resolve, toMillis(POLL)));
  }
}

function attachment(kind: PairKind): Attachment {
  return kind === 'none' ? 'open' : { kind, ipv6: 'none' };
}
