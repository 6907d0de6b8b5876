/**
 * How long the NAT before this machine keeps an idle mapping: one socket per span, which asks the relay to answer that much later
 * and then keeps silent. What comes shows that the mapping was still there; the spans are waited for side by side.
 *
 *   socket 1  ask, answer, ask "in 15 s" ···············► came
 *   socket 2  ask, answer, ask "in 30 s" ···················· ····► came
 *   socket 3  ask, answer, ask "in 60 s" ······················ ···········►  nothing: less than 60 s
 *
 * Three datagrams each way for a span, five with those asked again: 27 questions of 24 bytes or so where nothing is forgotten.
 */
import type { SocketAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import { type Duration, Millis } from '../../base/time.js';
import { ProbeSocket } from './probe-socket.js';

/** Seconds; usual lifetimes lie between 30 s and 5 min, RFC 4787 §4.3 asks for 2 min or more. */
export const LIFETIME_SPANS: readonly number[] = [5, 10, 15, 25, 35, 55, 115, 175, 295];
/** An answer within so many seconds that does not come is asked for once more: it may have been lost, and nodes send more often below it. */
const CONFIRMED = 25;
const PATIENCE: Duration = Millis(1000);
const DELAYED_PATIENCE: Duration = Millis(2000);

export interface MappingLifetime {
  /** Seconds of silence after which an answer still came; 0: not even after the shortest. */
  readonly atLeast: number;
  /** Seconds after which none came any more; undefined: even the longest span came through. */
  readonly lessThan: number | undefined;
}

/** @param spans in seconds, growing. Undefined when the relay does not answer. Takes as long as the longest span that comes. */
export async function measureLifetime(
  relay: SocketAddress,
  entropy: Entropy,
  spans: readonly number[],
  isBackground = false,
): Promise<MappingLifetime | undefined> {
  const sockets: ProbeSocket[] = [];
  const stop = (): void => {
    for (const socket of sockets.splice(0)) socket.close();
  };
  try {
    const runs = await Promise.all(spans.map((span) => begin(relay, entropy, span, sockets, isBackground)));
    if (runs.some((run) => run === undefined)) return undefined;
    let atLeast = 0;
    for (const [index, run] of runs.entries()) {
      const span = spans[index]!;
      let came = await run!.came;
      if (!came && span <= CONFIRMED) {
        const again = await begin(relay, entropy, span, sockets, isBackground);
        // The relay answers no more: this shows nothing of the NAT.
        if (again === undefined) return undefined;
        came = await again.came;
      }
      if (!came) return { atLeast, lessThan: span };
      atLeast = span;
    }
    return { atLeast, lessThan: undefined };
  } finally {
    stop();
  }
}

/** Makes the mapping one that has seen packets both ways, twice, and starts the silence. */
async function begin(
  relay: SocketAddress,
  entropy: Entropy,
  delaySeconds: number,
  sockets: ProbeSocket[],
  isBackground: boolean,
): Promise<{ readonly came: Promise<boolean> } | undefined> {
  const socket = await ProbeSocket.open(relay, entropy, isBackground);
  if (socket === undefined) return undefined;
  sockets.push(socket);
  for (let i = 0; i < 2; i++) if ((await socket.ask(relay, { patience: PATIENCE })) === undefined) return undefined;
  const patience = (Millis(delaySeconds * 1000) + DELAYED_PATIENCE) as Duration;
  return { came: socket.ask(relay, { delaySeconds, patience }).then((answer) => answer !== undefined) };
}
