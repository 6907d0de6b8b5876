/** The congestion controllers by name. */
import type { CongestionAlgorithm, CongestionControl } from './congestion.js';
import { Cubic } from './cubic.js';
import { NewReno } from './newreno.js';

/** @param segment bytes of one full segment. */
export function createCongestionControl(algorithm: CongestionAlgorithm, segment: number): CongestionControl {
  return algorithm === 'cubic' ? new Cubic(segment) : new NewReno(segment);
}
