/** How long a soak is, and of what. */
export interface SoakPlan {
  /** The packet phase ends with this many inner packets, or after this many seconds, whichever is first. */
  readonly packets: number;
  readonly seconds: number;
  /** One cycle of the packet phase: TCP down and up and UDP for this long each (whole seconds), then short flows, then silence. */
  readonly loadSeconds: number;
  readonly shortFlows: number;
  readonly idleSeconds: number;
  /** Every so many cycles the silence is a long one. */
  readonly longIdleEvery: number;
  readonly longIdleSeconds: number;
  /** Reconnects of agent and connector (the relay is killed and started), and of new agents (the agent is). */
  readonly relayRestarts: number;
  readonly agentRestarts: number;
  /** Agents that come and go while every process lives on: relay connection, session, an answered datagram, end. */
  readonly reconnects: number;
  /** Samples meanwhile. */
  readonly reconnectSamples: number;
  /** A sample after so many restarts. */
  readonly restartsPerSample: number;
}

/** By hand or nightly. */
export const LONG: SoakPlan = {
  packets: 1e8,
  seconds: 24 * 3600,
  loadSeconds: 20,
  shortFlows: 500,
  idleSeconds: 20,
  longIdleEvery: 20,
  longIdleSeconds: 600,
  relayRestarts: 1000,
  agentRestarts: 1000,
  reconnects: 20_000,
  reconnectSamples: 9,
  restartsPerSample: 50,
};

/** Less than half a minute, for tests. */
export const SHORT: SoakPlan = {
  packets: Number.POSITIVE_INFINITY,
  seconds: 8,
  loadSeconds: 1,
  shortFlows: 40,
  idleSeconds: 1,
  longIdleEvery: Number.POSITIVE_INFINITY,
  longIdleSeconds: 0,
  relayRestarts: 3,
  agentRestarts: 3,
  reconnects: 60,
  reconnectSamples: 3,
  restartsPerSample: 1,
};
