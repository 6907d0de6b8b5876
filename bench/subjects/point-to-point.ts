/**
 * What the peers have in common: one program on the user's host, one on the service's, straight to each other, and a TUN device on
 * either side.
 *
 *   user: 10.90.0.1 ── device ══ UDP ══ device ── service: 10.90.0.2
 */
import { SallyportError } from '../../src/base/error.js';
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../../test/lab/host.js';
import { type LabProcess, pollUntil } from '../../test/lab/process.js';
import { ADDRESSES } from '../../test/lab/topology.js';
import type { RunningSubject, SubjectContext } from '../subject.js';

/** One side of the tunnel. */
export interface End {
  readonly role: 'user' | 'service';
  readonly host: Host;
  /** Name of the TUN device: another in every run and on each side, because some programs keep files by this name in /var/run. */
  readonly device: string;
  /** Address inside the tunnel. */
  readonly inner: string;
  readonly otherInner: string;
  /** Address of the host that the other side sends to. */
  readonly outer: string;
  readonly otherOuter: string;
}

export const PREFIX_LENGTH = 24;

let runs = 0;

/** Starts both sides at once; `startEnd` returns when its program runs. */
export async function startBoth(
  context: SubjectContext,
  short: string,
  startEnd: (end: End) => Promise<LabProcess>,
): Promise<RunningSubject> {
  const { user, service } = context.topology;
  const name = `${short}${process.pid}r${runs++}`;
  const userInner = '10.90.0.1';
  const serviceInner = '10.90.0.2';
  const ends: readonly End[] = [
    {
      role: 'user',
      host: user,
      device: `${name}u`,
      inner: userInner,
      otherInner: serviceInner,
      outer: ADDRESSES.user.v4,
      otherOuter: ADDRESSES.service.v4,
    },
    {
      role: 'service',
      host: service,
      device: `${name}s`,
      inner: serviceInner,
      otherInner: userInner,
      outer: ADDRESSES.service.v4,
      otherOuter: ADDRESSES.user.v4,
    },
  ];
  const [userEnd, serviceEnd] = await Promise.all(ends.map(startEnd));
  return {
    target: serviceInner,
    device: { host: user, name: ends[0]!.device },
    processes: { user: userEnd!, service: serviceEnd! },
    stop: async () => {
      await Promise.all([userEnd!.stop(), serviceEnd!.stop()]);
    },
  };
}

/** Waits until the program has made its device. */
export async function deviceOf(end: End, program: LabProcess): Promise<void> {
  await pollUntil(
    `the device ${end.device}`,
    () => {
      if (!program.running) {
        const said = (program.stderr + program.stdout).trim().slice(-500);
        throw new SallyportError('environment', 'BENCH_SUBJECT_FAILED', `${program.command.join(' ')} ended: ${said}`);
      }
      return end.host.ip('-br', 'link').includes(`${end.device} `);
    },
    Seconds(10),
  );
}

/** Gives the device its address and MTU and brings it up. */
export function configureDevice(end: End, mtu: number): void {
  end.host.ip('address', 'add', `${end.inner}/${PREFIX_LENGTH}`, 'dev', end.device);
  end.host.ip('link', 'set', end.device, 'mtu', String(mtu), 'up');
}
