/**
 * `sallyport revoke NAME`: every invitation made for that name so far stops counting, everywhere the new policy reaches:
 * its links end, its certificate is not renewed, an unused token is worthless.
 */
import type { Command } from 'commander';
import { SallyportError } from '../../base/error.js';
import { OperatorFolder } from '../../identity/operator-folder.js';
import type { CommandContext } from '../context.js';
import { stateFolder } from '../state-folder.js';
import { publishNote } from './operator-text.js';

interface RevokeOptions {
  readonly role?: string;
  readonly dir?: string;
  readonly json?: boolean;
}

export function register(program: Command, context: CommandContext): void {
  program
    .command('revoke')
    .argument('<name>', 'name of the agent or connector')
    .option('--role <role>', 'only its invitations as agent, or as connector')
    .option('--dir <dir>', 'folder that holds operator/')
    .option('--json', 'for machines')
    .action((name: string, options: RevokeOptions) => revoke(name, options, context));
}

function revoke(name: string, options: RevokeOptions, context: CommandContext): void {
  const { role } = options;
  if (role !== undefined && role !== 'agent' && role !== 'connector') {
    throw new SallyportError('caller', 'REVOKE_ROLE', `"${role}" is no role`, { hint: 'agent or connector' });
  }
  const operator = OperatorFolder.open(stateFolder(options.dir, context.environment), context.crypto);
  try {
    const { book, document } = operator;
    const named = book.invitations.filter((one) => one.name === name && (role === undefined || one.role === role));
    if (named.length === 0) {
      throw new SallyportError('caller', 'UNKNOWN_NODE', `nobody named ${name} was ever invited`, {
        hint: 'names are compared exactly; "policy show" lists services and grants',
      });
    }
    const added = named.map((one) => one.id).filter((id) => !document.revocations.includes(id));
    const revocations = [...document.revocations, ...added];
    const published =
      added.length > 0
        ? operator.publish({ ...document, revocations }, context.clock.wall())
        : { version: document.version, copied: true };
    if (options.json === true) {
      context.out(JSON.stringify({ name, revoked: added, policyVersion: published.version, copied: published.copied }));
      return;
    }
    const what = added.length === 1 ? '1 invitation' : `${added.length} invitations`;
    context.out(added.length > 0 ? `Revoked ${name}: ${what}.` : `${name} was revoked already.`);
    if (added.length > 0) context.note(publishNote(published));
  } finally {
    operator.close();
  }
}
