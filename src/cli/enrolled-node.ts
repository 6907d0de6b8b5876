/** The identity an agent or connector runs with: the one in its state folder, or a new one by its join token. */
import { SallyportError } from '../base/error.js';
import { enrol } from '../identity/enrol.js';
import { isEnrolled, loadNode, type NodeState } from '../identity/node-state.js';
import { createCsrAside } from '../node/csr-aside.js';
import type { NodeRole } from '../policy/names.js';
import type { CommandContext } from './context.js';
import { type JoinSource, readJoinToken } from './join-token.js';

/**
 * A token is read only while the folder holds no identity.
 * @throws SallyportError NOT_ENROLLED, WRONG_ROLE, and those of reading the token and enrolling.
 */
export async function enrolledNode(
  role: NodeRole,
  dir: string,
  source: JoinSource,
  context: CommandContext,
): Promise<NodeState> {
  if (!isEnrolled(dir)) {
    const token = await readJoinToken(source, context);
    const options = { crypto: context.crypto, wall: context.clock.wall(), role, createCsr: createCsrAside };
    if (token !== undefined) await enrol(token, dir, options);
  }
  const state = loadNode(dir);
  if (state.role === role) return state;
  throw new SallyportError('caller', 'WRONG_ROLE', `${dir} holds the identity of the ${state.role} ${state.name}`, {
    hint: 'choose another folder with --dir',
  });
}
