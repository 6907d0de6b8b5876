/** `sallyport connector`: runs a connector beside the services it serves. */
import type { Command } from 'commander';
import { SallyportError } from '../../base/error.js';
import { startConnector } from '../../connector/run.js';
import { makeFolder } from '../../identity/files.js';
import { SERVICE_ID } from '../../tunnel/messages.js';
import { ConnectorConfig, loadConfig, splitPair } from '../config.js';
import type { CommandContext } from '../context.js';
import { enrolledNode } from '../enrolled-node.js';
import { createLog } from '../log.js';
import { runRole } from '../role.js';

interface ConnectorFlags {
  readonly config?: string;
  readonly dir?: string;
  readonly join?: string;
  readonly joinFile?: string;
  readonly service?: string[];
  readonly port?: string;
  readonly logLevel?: string;
}

export function register(program: Command, context: CommandContext): void {
  const many = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];
  program
    .command('connector')
    .description('run a connector: reaches private services for agents')
    .option('--join-file <file>', 'file with the join token, for the first start')
    .option('--join <token>', 'the join token itself, or - for standard input (SALLYPORT_JOIN in the environment)')
    .option(
      '--service <id=url>',
      'where a service really is, for example web=tcp://10.0.0.5:80; overrides the invitation',
      many,
    )
    .option('--port <number>', 'local UDP port (default: an ephemeral one)')
    .option('--dir <dir>', 'state folder')
    .option('--config <file>', 'configuration file')
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent')
    .action((flags: ConnectorFlags) => run(flags, context));
}

async function run(flags: ConnectorFlags, context: CommandContext): Promise<void> {
  const { config: file, service, port, ...rest } = flags;
  const given = {
    ...rest,
    ...(port === undefined ? {} : { port: Number(port) }),
    ...(service === undefined ? {} : { services: Object.fromEntries(service.map(splitService)) }),
  };
  const config = loadConfig(ConnectorConfig, 'connector', file, given, context.environment);
  const dir = config.dir!;
  const log = createLog('connector', config.logLevel, process.stderr.isTTY);
  makeFolder(dir);
  process.exitCode = await runRole({
    role: 'connector',
    dir,
    log,
    start: async (onDeath) => {
      const { crypto } = context;
      const source = { join: config.join, joinFile: config.joinFile, isArgument: flags.join !== undefined };
      const state = await enrolledNode('connector', dir, source, context);
      const connector = await startConnector({
        state,
        services: config.services,
        port: config.port,
        crypto,
        log,
        onDeath,
      });
      log.info({ network: state.network, name: state.name }, 'connector started');
      return {
        status: async () => ({ network: state.network, name: state.name, ...(await connector.status()) }),
        stop: () => connector.stop(),
      };
    },
  });
}

function splitService(text: string): [string, string] {
  const [id, url] = splitPair(text);
  if (!SERVICE_ID.test(id) || url === '') {
    throw new SallyportError('caller', 'SERVICE_SYNTAX', `--service ${text} is not ID=PROTO://HOST:PORT`, {
      hint: 'for example --service web=tcp://10.0.0.5:80',
    });
  }
  return [id, url];
}
