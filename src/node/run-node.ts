/**
 * What the main threads of agent and connector do alike: new policies are kept, certificates renewed and reloaded, and the packet
 * thread's end.
 */
import type { Crypto } from '../base/crypto.js';
import { describeError, SallyportError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { type Duration, Millis, Minutes, toMillis, type WallTime } from '../base/time.js';
import { checkCertificate, renewIfDue } from '../identity/enrol.js';
import { loadNode, type NodeState, saveCertificate, savePolicy } from '../identity/node-state.js';
import type { StopOutcome } from '../os/thread.js';
import type { Envelope } from '../policy/envelope.js';
import { createCsrAside } from './csr-aside.js';
import { knownRelays } from './known-relays.js';
import type { StateWriter } from './state-writer.js';
import type { DirectSettings, NodeThreadData } from './thread-setup.js';

/** A packet thread ends within a turn; after this it is torn down. */
const STOP_DEADLINE: Duration = Millis(1200);
/** After a renewal that failed the next is tried this much later. */
const RENEWAL_RETRY: Duration = Minutes(10);
/** Longest timer: due dates farther off are looked at again in between, as the wall clock may be set. */
const RENEWAL_CHECK: Duration = Minutes(60);

/** What every node's packet thread is started with. */
export function nodeThreadData(state: NodeState, port: number, direct: DirectSettings): NodeThreadData {
  const { network, name, policyKey, policy, proof, caPem, certificatePem, keyPem } = state;
  const relays = knownRelays(state).map((relay) => relay.name);
  return { network, name, policyKey, policy, proof, caPem, certificatePem, keyPem, relays, port, direct };
}

/** What both nodes' packet threads report, as far as it is more than a line in the log. */
type NodeEvent =
  | { readonly kind: 'policy'; readonly version: number; readonly envelope: unknown }
  | { readonly kind: string };

/** Keeps a new policy and logs everything; `warnings` are the kinds somebody should look at. */
export function handleNodeEvent(
  event: NodeEvent,
  dir: string,
  writer: StateWriter,
  log: Log,
  warnings: ReadonlySet<string>,
): void {
  if (event.kind === 'policy' && 'envelope' in event) {
    writer.save('policy', () => savePolicy(dir, event.envelope as Envelope));
    log.info({ version: event.version }, 'new policy');
    return;
  }
  const { kind, ...fields } = event;
  if (warnings.has(kind)) log.warn(fields, kind);
  else log.info(fields, kind);
}

/** What a node's thread is asked at a reload. */
interface ReloadThread {
  request(name: 'policy', input: unknown): Promise<undefined>;
  request(name: 'identity', input: { readonly certificatePem: string; readonly keyPem: string }): Promise<undefined>;
}

/**
 * Reads certificate and policy of the state folder again and puts them in force; resolves to all that stands there. The policy
 * there is this node's own copy: where the relay has sent a newer one that is not written yet, the newer goes on.
 * @throws SallyportError CERTIFICATE_NOT_OURS, STATE_UNREADABLE (environment), those of `PolicyKeeper.offer` but
 * POLICY_ROLLBACK; then what was in force goes on.
 */
export async function reloadIdentity(thread: ReloadThread, running: NodeState): Promise<NodeState> {
  const present = loadNode(running.dir);
  const { certificatePem, policy } = present;
  checkCertificate(certificatePem, running, Date.now() as WallTime);
  if (policy !== undefined) {
    await thread.request('policy', policy).catch((error: unknown) => {
      if (!(error instanceof SallyportError && error.code === 'POLICY_ROLLBACK')) throw error;
    });
  }
  await thread.request('identity', { certificatePem, keyPem: running.keyPem });
  return present;
}

/** Lets a node's thread say goodbye to its peers, then ends it. */
export async function endNodeThread(
  thread: {
    request(name: 'shutdown', input: undefined): Promise<undefined>;
    stop(deadline: Duration): Promise<StopOutcome>;
  },
  log: Log,
): Promise<void> {
  await thread.request('shutdown', undefined).catch(() => undefined);
  const outcome = await thread.stop(STOP_DEADLINE);
  if (outcome !== 'stopped') log.error({ outcome }, 'the packet thread had to be torn down');
}

/** Renews the node's certificate when it is due, for as long as the node runs. Returns the function that ends it. */
export function keepRenewed(
  state: NodeState,
  crypto: Crypto,
  writer: StateWriter,
  log: Log,
  use: (certificatePem: string) => Promise<void>,
): () => void {
  let timer: NodeJS.Timeout | undefined;
  let over = false;
  const schedule = (wait: number): void => {
    if (over) return;
    timer = setTimeout(() => void check(), Math.min(Math.max(wait, 1000), toMillis(RENEWAL_CHECK)));
    timer.unref();
  };
  const check = async (): Promise<void> => {
    try {
      const options = { crypto, wall: Date.now() as WallTime, relaysOf: knownRelays, createCsr: createCsrAside };
      const renewal = await renewIfDue(state.dir, options);
      if (renewal.renewed) {
        const { certificatePem, unsaved } = renewal;
        if (unsaved !== undefined) {
          writer.failed('certificate', () => saveCertificate(state.dir, certificatePem), unsaved);
        }
        await use(certificatePem);
        log.info({ dueAt: new Date(renewal.dueAt).toISOString() }, 'certificate renewed');
      }
      schedule(renewal.dueAt - Date.now());
    } catch (error) {
      log.warn({ error: describeError(error) }, 'the certificate could not be renewed');
      schedule(toMillis(RENEWAL_RETRY));
    }
  };
  void check();
  return () => {
    over = true;
    clearTimeout(timer);
  };
}
