/** Whether a soak's series are flat: the last third of the samples beside the first, which begins after the warm-up. */
import { quantile } from '../statistics.js';
import type { RoleName } from '../subjects/sallyport-network.js';

export interface RoleSample {
  readonly rssBytes: number;
  readonly descriptors: number;
}

export interface SoakSample {
  readonly phase: string;
  /** Seconds since the soak began. */
  readonly at: number;
  /** Inner packets so far, both directions, as the agent counts them. */
  readonly packets: number;
  /** A short TCP flow from its first packet until its answer, in microseconds. */
  readonly flowP50: number;
  readonly roles: Readonly<Record<RoleName, RoleSample>>;
}

export const ROLE_NAMES: readonly RoleName[] = ['relay', 'connector', 'agent'];

/** What resident memory may grow by, from the first to the last third: noise of a heap that is collected when it likes. */
const RSS_GROWTH = 0.1;
const RSS_SLACK = 8e6;
/** Descriptors that come and go: a connection that is just being made or ended. */
const DESCRIPTOR_SLACK = 2;

/** Samples of one phase ("packets", "relay restarts" …) in order; what is not flat, in words. */
export function growth(samples: readonly SoakSample[], roles: readonly RoleName[]): string[] {
  const third = Math.max(1, Math.floor(samples.length / 3));
  const [first, last] = [samples.slice(0, third), samples.slice(-third)];
  const problems: string[] = [];
  for (const role of roles) {
    const middle = (part: readonly SoakSample[], field: keyof RoleSample): number =>
      quantile(
        part.map((sample) => sample.roles[role][field]),
        0.5,
      );
    const [before, after] = [middle(first, 'rssBytes'), middle(last, 'rssBytes')];
    if (after > before * (1 + RSS_GROWTH) + RSS_SLACK) {
      problems.push(`${role}: resident memory grew from ${megabytes(before)} to ${megabytes(after)}`);
    }
    const [open, stillOpen] = [middle(first, 'descriptors'), middle(last, 'descriptors')];
    if (stillOpen > open + DESCRIPTOR_SLACK) problems.push(`${role}: descriptors grew from ${open} to ${stillOpen}`);
  }
  return problems;
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
