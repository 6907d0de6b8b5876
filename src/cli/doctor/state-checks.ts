/** Checks of what is on this machine: the state folder, who may read it, certificate, policy, rights, the running role. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { Crypto } from '../../base/crypto.js';
import { SallyportError } from '../../base/error.js';
import { formatDuration } from '../../base/text.js';
import { Millis, type WallTime } from '../../base/time.js';
import { checkCertificate, renewalDue } from '../../identity/enrol.js';
import type { NodeState } from '../../identity/node-state.js';
import { openTun } from '../../os/linux/tun.js';
import { askLocal } from '../../os/local-control.js';
import { PolicyKeeper } from '../../policy/keeper.js';
import type { RoleStatus } from '../status-types.js';
import { type Finding, fail, failure, ok, skip, warn } from './check.js';

/** Bits of a file's mode that let others than its owner in. */
const OTHERS = 0o077;
/** The kernel puts a number in the place of %d. */
const PROBE_DEVICE = 'spdoctor%d';

export function checkPermissions(dir: string): Finding {
  for (const path of [dir, join(dir, 'key.pem')]) {
    const { mode } = statSync(path);
    if ((mode & OTHERS) === 0) continue;
    const shown = (mode & 0o777).toString(8).padStart(4, '0');
    return fail(`others may read ${path} (mode ${shown})`, `chmod -R go= ${dir}`);
  }
  return ok('only their owner may read folder and key');
}

export function checkOwnCertificate(state: NodeState, wall: WallTime): Finding {
  try {
    checkCertificate(state.certificatePem, state, wall);
  } catch (error) {
    return failure(error);
  }
  const left = renewalDue(state.certificatePem) - wall;
  return left > 0
    ? ok(`valid, due for renewal in ${formatDuration(Millis(left))}`)
    : warn('valid, and its renewal is overdue', 'it is renewed while the role runs and reaches its relay: start it');
}

export function checkPolicy(state: NodeState, crypto: Crypto, wall: WallTime): Finding {
  if (state.policy === undefined) return warn('none seen yet', 'it comes from the relay: start the role');
  const keeper = new PolicyKeeper(crypto, state.policyKey, state.network);
  try {
    keeper.offer(state.policy);
  } catch (error) {
    return failure(error);
  }
  const version = `version ${keeper.view!.version}, signed by the operator`;
  if (!keeper.admits(wall)) return fail(`${version}, expired`, 'the operator signs a new one: sallyport policy apply');
  if (keeper.view!.isRevoked(state.invitationId))
    return fail('this node is revoked', 'ask the operator for a new token');
  return ok(version);
}

/** An agent alone needs a TUN device, and has the proxy mode without it. */
export function checkTun({ role }: NodeState): Finding {
  if (role !== 'agent') return skip(`a ${role} needs none`);
  try {
    const tun = openTun({ name: PROBE_DEVICE, offload: false });
    tun.close();
    return ok('a device can be made');
  } catch (error) {
    const { evidence, fix } = failure(error);
    return warn(`${evidence.replace(PROBE_DEVICE, 'of a test')}: only the proxy mode works`, fix);
  }
}

export async function checkRunning(dir: string): Promise<Finding> {
  let status: RoleStatus;
  try {
    status = (await askLocal(dir, { command: 'status' })) as RoleStatus;
  } catch (error) {
    if (error instanceof SallyportError && error.code === 'NOT_RUNNING') return warn('nothing runs on this folder');
    return failure(error);
  }
  if (status.role !== 'agent' && status.role !== 'connector') return ok(`a ${status.role} runs`);
  const { state, problem, over } = status.relay;
  if (state !== 'ready') return fail(`the ${status.role} runs without its relay: ${problem === '' ? state : problem}`);
  return ok(`the ${status.role} runs, its relay is reached over ${over.toUpperCase()}`);
}
