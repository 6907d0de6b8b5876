/**
 * `sallyport doctor`: what to run first when something does not work. Numbered checks of this machine and of the way to the relay,
 * each with what was seen and what to do. Fails when one of them does.
 */
import type { Command } from 'commander';
import { SallyportError } from '../../base/error.js';
import { loadNode, type NodeState } from '../../identity/node-state.js';
import type { CommandContext } from '../context.js';
import { type Check, type Finding, failure, ok } from '../doctor/check.js';
import { checkRelays } from '../doctor/relay-checks.js';
import { checkOwnCertificate, checkPermissions, checkPolicy, checkRunning, checkTun } from '../doctor/state-checks.js';
import { stateFolder } from '../state-folder.js';

/** Width of the column of verdicts. */
const VERDICT_WIDTH = 5;

export function register(program: Command, context: CommandContext): void {
  program
    .command('doctor')
    .option('--dir <dir>', 'state folder of an agent or a connector')
    .option('--json', 'for machines')
    .action(async (options: { readonly dir?: string; readonly json?: boolean }) => {
      const dir = stateFolder(options.dir, context.environment);
      const checks = await examine(dir, context);
      const isHealthy = !checks.some(({ verdict }) => verdict === 'fail');
      context.out(options.json ? JSON.stringify({ healthy: isHealthy, checks }, undefined, 2) : describe(checks));
      if (isHealthy) return;
      const failed = checks.filter(({ verdict }) => verdict === 'fail').map(({ id }) => id);
      throw new SallyportError(
        'environment',
        'UNHEALTHY',
        `${failed.length} of ${checks.length} checks failed: ${failed.join(', ')}`,
      );
    });
}

async function examine(dir: string, { crypto, clock, entropy }: CommandContext): Promise<Check[]> {
  let state: NodeState;
  try {
    state = loadNode(dir);
  } catch (error) {
    return [numbered('SP001', 'state folder', failure(error))];
  }
  const { network, role, name } = state;
  const wall = clock.wall();
  const [relay, running] = await Promise.all([checkRelays(state, entropy, () => clock.wall()), checkRunning(dir)]);
  return [
    numbered('SP001', 'state folder', ok(`${role} ${name} of network ${network} in ${dir}`)),
    numbered('SP002', 'permissions', checkPermissions(dir)),
    numbered('SP003', 'certificate', checkOwnCertificate(state, wall)),
    numbered('SP004', 'policy', checkPolicy(state, crypto, wall)),
    numbered('SP005', 'relay name', relay.names),
    numbered('SP006', 'relay over UDP', relay.udp),
    numbered('SP007', 'relay over TCP', relay.tcp),
    numbered('SP008', 'clock', relay.clock),
    numbered('SP009', 'NAT', relay.nat),
    numbered('SP010', 'TUN device', checkTun(state)),
    numbered('SP011', 'running', running),
  ];
}

function numbered(id: string, name: string, finding: Finding): Check {
  return { id, name, ...finding };
}

function describe(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks
    .map(({ id, name, verdict, evidence, fix }) => {
      const line = `${id}  ${verdict.padEnd(VERDICT_WIDTH)} ${name.padEnd(width)}  ${evidence}`;
      return fix === undefined ? line : `${line}\n       → ${fix}`;
    })
    .join('\n');
}
