/**
 * A running relay as the main thread sees it: its folder, its packet thread, its state for `status`. What listens for
 * enrolment is composed beside it.
 */

import type { SallyportError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { type Duration, Millis, toMillis } from '../base/time.js';
import type { RelayFolder } from '../identity/relay-folder.js';
import { ThreadHost } from '../os/thread.js';
import type { RelayEvent } from './core.js';
import type { RelayLimits } from './limits.js';
import { NodesFileWriter, readFormerNodes } from './nodes-file.js';
import type { RelayProtocol, RelayThreadData, RelayThreadStatus } from './thread-protocol.js';

/** A packet thread ends within a turn; after this it is torn down. */
const STOP_DEADLINE = Millis(1200);
/** A drain that has not said that it is over this long after its deadline never will. */
const DRAIN_GRACE = Millis(200);

/** Events after which nodes are elsewhere than before. */
const WHERE_NODES_ARE: ReadonlySet<RelayEvent['kind']> = new Set([
  'node-connected',
  'node-replaced',
  'node-moved',
  'node-lost',
]);

export interface RelayOptions {
  readonly folder: RelayFolder;
  readonly listen: readonly string[];
  /** 0 = no second port. */
  readonly probePort: number;
  readonly limits: RelayLimits;
  readonly log: Log;
  /** The packet thread is gone; the process should end. */
  readonly onDeath: (error: SallyportError) => void;
}

export interface RunningRelay {
  status(): Promise<RelayThreadStatus>;
  /** @throws SallyportError those of `PolicyKeeper.offer`. */
  offerPolicy(envelope: unknown): Promise<{ readonly version: number; readonly changed: boolean }>;
  setIdentity(certificatePem: string, keyPem: string): Promise<void>;
  /** Refuses what is new and lets what passes go on; resolves when nothing does any more, or after `span`. */
  drain(span: Duration): Promise<void>;
  stop(): Promise<void>;
}

/** @throws SallyportError from opening the sockets, or when the policy does not verify. */
export async function startRelay(options: RelayOptions): Promise<RunningRelay> {
  const { folder, log } = options;
  const data: RelayThreadData = {
    listen: options.listen,
    probePort: options.probePort,
    network: folder.network,
    name: folder.name,
    policyKey: folder.policyKey,
    policy: folder.policy,
    caPem: folder.caPem,
    certificatePem: folder.certificatePem,
    keyPem: folder.keyPem,
    resetKey: folder.resetKey,
    limits: options.limits,
    formerNodes: readFormerNodes(folder.dir, log),
  };
  let onDrained: () => void = () => undefined;
  const drained = new Promise<void>((resolve) => {
    onDrained = resolve;
  });
  const nodesFile = new NodesFileWriter(folder.dir, log, () => thread.request('whereNodesAre', undefined));
  const thread = await ThreadHost.start<RelayProtocol>({
    url: new URL('./packet-thread.js', import.meta.url),
    name: 'relay',
    data,
    onEvent: (_name, event) => {
      logEvent(log, event);
      if (WHERE_NODES_ARE.has(event.kind)) nodesFile.changed();
      if (event.kind === 'drained') onDrained();
    },
    onBug: (error, suppressed) =>
      log.error({ error: error.message, suppressed }, 'unexpected error on the packet path'),
    onStall: (span) => log.error({ milliseconds: span / 1000 }, 'the packet thread does not answer'),
    onDeath: options.onDeath,
  });
  return {
    status: () => thread.request('status', undefined),
    offerPolicy: (envelope) => thread.request('policy', envelope),
    setIdentity: async (certificatePem, keyPem) => {
      await thread.request('identity', { certificatePem, keyPem });
    },
    drain: async (span) => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        // A process that is told to hurry does not wait for this.
        timer = setTimeout(resolve, toMillis(span) + toMillis(DRAIN_GRACE)).unref();
      });
      const gone = thread.request('drain', { span }).then(() => drained);
      await Promise.race([gone.catch(() => undefined), late]);
      clearTimeout(timer);
    },
    stop: async () => {
      await thread.request('shutdown', undefined).then(
        () => nodesFile.end(),
        () => undefined,
      );
      const outcome = await thread.stop(STOP_DEADLINE);
      if (outcome !== 'stopped') log.error({ outcome }, 'the packet thread had to be torn down');
    },
  };
}

function logEvent(log: Log, event: RelayEvent): void {
  const { kind, ...fields } = event;
  switch (kind) {
    case 'node-refused':
    case 'open-refused':
      log.warn(fields, kind);
      break;
    case 'no-probe-port':
      log.warn(fields, 'no second port: the NATs in front of nodes are not classified (probePort 0 turns it off)');
      break;
    case 'nodes-hidden':
      log.warn(
        fields,
        'every node is seen from one private address: something in front of the relay hides where they are (a load balancer, a container network)',
      );
      break;
    case 'channel-opened':
    case 'channel-closed':
      log.debug(fields, kind);
      break;
    default:
      log.info(fields, kind);
  }
}
