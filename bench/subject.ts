/**
 * What is measured: nothing at all, a peer, or Sallyport; each carries IP packets from the laboratory's user to its service.
 *
 *   prepare (once) ─► start ─► measurements ─► stop      a new laboratory for every run
 */
import type { Host } from '../test/lab/host.js';
import type { LabProcess } from '../test/lab/process.js';
import type { StandardTopology } from '../test/lab/topology.js';

export interface SubjectContext {
  readonly topology: StandardTopology;
  /** Bytes of IP packet that the tunnel takes; the same for all subjects that have a tunnel. */
  readonly mtu: number;
  /** A folder for keys and state, empty at the start and removed after the run. */
  readonly folder: string;
  /** TCP and UDP port of the iperf3 server on the service's host. */
  readonly iperfPort: number;
  /** TCP port of the echo server there. */
  readonly echoPort: number;
}

export interface RunningSubject {
  /** The address at which the user's programs reach the service through this subject. */
  readonly target: string;
  /** The tunnel's device on the user's side; its MTU is checked. */
  readonly device?: { readonly host: Host; readonly name: string };
  /** The programs whose CPU time and memory count as the subject's, by role. Each leads a process group. */
  readonly processes: Readonly<Record<string, LabProcess>>;
  /** Ends them; what the laboratory itself removes (devices, routes) needs no undoing. */
  stop(): Promise<void>;
}

export interface Subject {
  readonly name: string;
  /**
   * Builds or finds the programs, outside the repository and the measured time; returns their version. Throws
   * BENCH_SUBJECT_UNAVAILABLE when this machine cannot run the subject.
   */
  prepare(): Promise<string>;
  /** Starts the subject. It need not carry packets yet when this returns. */
  start(context: SubjectContext): Promise<RunningSubject>;
}
