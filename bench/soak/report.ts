/** The record of a soak. */
import type { Machine } from '../machine.js';
import type { SoakPlan } from './plan.js';
import type { SoakResult } from './soak.js';

export interface SoakReport {
  readonly format: 1;
  readonly date: string;
  readonly command: string;
  readonly machine: Machine;
  readonly plan: SoakPlan;
  readonly result: SoakResult;
}
