/**
 * `sallyport wait`: for scripts, exits once the role on this state folder is ready: it runs, its relay is reached, and, when
 * asked for, a service can be used (agent), is registered (connector) or has a connector (relay).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { SallyportError } from '../../base/error.js';
import { elapsed, later } from '../../base/time.js';
import { askLocal } from '../../os/local-control.js';
import type { CommandContext } from '../context.js';
import { parseSpan } from '../span.js';
import { stateFolder } from '../state-folder.js';
import type { NodeStatus, RoleStatus } from '../status-types.js';

/** How often the role is asked: a person does not notice, and a role answers in a millisecond. */
const POLL_MS = 100;

interface Options {
  readonly dir?: string;
  readonly service: string[];
  readonly path?: 'relay' | 'direct';
  readonly timeout: string;
  readonly json?: boolean;
}

export function register(program: Command, context: CommandContext): void {
  program
    .command('wait')
    .option(
      '--service <id>',
      'and this service is there (may be given several times)',
      (id: string, before: string[]) => [...before, id],
      [],
    )
    .addOption(new Option('--path <path>', 'and an agent’s session takes this path').choices(['relay', 'direct']))
    .option('--timeout <duration>', 'give up after this time', '30s')
    .option('--dir <dir>', 'state folder')
    .option('--json', 'for machines')
    .action((options: Options) => run(options, context));
}

async function run(options: Options, context: CommandContext): Promise<void> {
  const { clock } = context;
  const dir = stateFolder(options.dir, context.environment);
  const start = clock.now();
  const deadline = later(start, parseSpan(options.timeout));
  for (;;) {
    const missing = await whatIsMissing(dir, options);
    if (missing === undefined) {
      const seconds = Math.round(elapsed(start, clock.now()) / 1_000) / 1_000;
      context.out(options.json ? JSON.stringify({ ready: true, seconds }) : 'ready');
      return;
    }
    if (clock.now() >= deadline) {
      if (options.json) context.out(JSON.stringify({ ready: false, missing }));
      throw new SallyportError('environment', 'NOT_READY', `not ready after ${options.timeout}: ${missing}`);
    }
    await sleep(POLL_MS);
  }
}

/** One line about the first thing that is not as wanted. @throws SallyportError of the local socket but NOT_RUNNING. */
async function whatIsMissing(dir: string, { service: services, path }: Options): Promise<string | undefined> {
  let status: RoleStatus;
  try {
    status = (await askLocal(dir, { command: 'status' })) as RoleStatus;
  } catch (error) {
    if (error instanceof SallyportError && error.code === 'NOT_RUNNING') return error.message;
    throw error;
  }
  if (status.role === 'tun2socks')
    return services.length === 0 && path === undefined ? undefined : 'tun2socks has no services';
  if (status.role !== 'relay' && status.relay.state !== 'ready') {
    const { state, problem } = status.relay;
    return `the relay is not reached (${problem === '' ? state : `${state}: ${problem}`})`;
  }
  for (const id of services) {
    const missing = missingService(status, id);
    if (missing !== undefined) return missing;
  }
  return path === undefined ? undefined : missingPath(status, services, path);
}

function missingService(status: NodeStatus, id: string): string | undefined {
  switch (status.role) {
    case 'agent': {
      const service = status.services.find((one) => one.id === id);
      if (service === undefined) return `the service ${id} does not exist or is not granted to ${status.name}`;
      return service.available ? undefined : `no connector serves ${id} now`;
    }
    case 'connector': {
      const service = status.services.find((one) => one.id === id);
      if (service === undefined) return `${status.name} does not serve ${id}`;
      return service.registration === 'ok' ? undefined : `the relay says of ${id}: ${service.registration}`;
    }
    case 'relay':
      return status.nodes.some((node) => node.services.includes(id)) ? undefined : `no connector serves ${id} now`;
  }
}

/** Sessions are made by the first packet, so that a path can only be waited for while something is used. */
function missingPath(status: NodeStatus, services: readonly string[], path: string): string | undefined {
  if (status.role !== 'agent') return `a ${status.role} has no path of its own: wait for one at an agent`;
  const asked = status.services.filter((one) => services.includes(one.id));
  const held = asked.find((one) => one.path !== undefined);
  if (held !== undefined && held.path !== path)
    return `the policy has packets of ${held.id} take ${held.path} links only`;
  const wanted = asked.flatMap((one) => one.connectors);
  const sessions = status.sessions.filter(({ connector }) => services.length === 0 || wanted.includes(connector));
  const takes = ({ link, links }: (typeof sessions)[number]): boolean =>
    held === undefined ? link?.via === path : links.some(({ via, state }) => via === path && state !== 'handshaking');
  if (sessions.some(takes)) return undefined;
  return `no session goes ${path === 'direct' ? 'directly' : 'through the relay'} now`;
}
