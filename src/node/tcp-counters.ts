/** What bridges between TCP and UDP count. */

export interface TcpBridgeCounters {
  /** Datagrams out of the stream; into it, or its queue; of the latter, dropped since. */
  readonly datagramsIn: number;
  readonly datagramsOut: number;
  readonly dropped: number;
}

export const noCounters = (): TcpBridgeCounters => ({ datagramsIn: 0, datagramsOut: 0, dropped: 0 });

export const sumOf = (a: TcpBridgeCounters, b: TcpBridgeCounters): TcpBridgeCounters => ({
  datagramsIn: a.datagramsIn + b.datagramsIn,
  datagramsOut: a.datagramsOut + b.datagramsOut,
  dropped: a.dropped + b.dropped,
});

/** As `status` and `metrics` name them; empty where nothing has passed. */
export function bridgeCounters(all: readonly TcpBridgeCounters[]): Record<string, number> {
  const sum = all.reduce(sumOf, noCounters());
  if (sum.datagramsIn + sum.datagramsOut === 0) return {};
  return { 'tcp.datagramsIn': sum.datagramsIn, 'tcp.datagramsOut': sum.datagramsOut, 'tcp.dropped': sum.dropped };
}
