import { SallyportError } from '../../src/base/error.js';
import type { RunningSubject, Subject } from '../subject.js';

export class Sallyport implements Subject {
  readonly name = 'sallyport';
  async prepare(): Promise<string> {
    throw new SallyportError('environment', 'BENCH_SUBJECT_UNAVAILABLE', 'not built yet');
  }
  async start(): Promise<RunningSubject> {
    throw new Error('unreachable');
  }
}
