/** The congestion controllers by name. */
import { Bbr } from './bbr.js';
import type { CongestionAlgorithm, CongestionControl } from './congestion.js';
import { Cubic } from './cubic.js';
import { NewReno } from './newreno.js';

/** @param segment bytes of one full segment. */
export function createCongestionControl(algorithm: CongestionAlgorithm, segment: number): CongestionControl {
  if (algorithm === 'newreno') return new NewReno(segment);
  return algorithm === 'cubic' ? new Cubic(segment) : new Bbr(segment);
}
