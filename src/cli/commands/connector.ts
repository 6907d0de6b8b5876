/** `sallyport connector`: runs a connector beside the services it serves. */
import type { Command } from 'commander';
import { SallyportError } from '../../base/error.js';
import { startConnector } from '../../connector/run.js';
import { makeFolder } from '../../identity/files.js';
import { SERVICE_ID } from '../../tunnel/service-id.js';
import { ConnectorConfig } from '../config.js';
import type { CommandContext } from '../context.js';
import { enrolledNode } from '../enrolled-node.js';
import { numberText, splitPair } from '../key-text.js';
import { createLog } from '../log.js';
import { runRole } from '../role.js';
import {
  addDirectOptions,
  addRoleOptions,
  type DirectFlags,
  directSettings,
  LiveConfig,
  many,
  type RoleFlags,
  switchedOff,
} from '../role-options.js';

interface ConnectorFlags extends RoleFlags, DirectFlags {
  readonly join?: string;
  readonly joinFile?: string;
  readonly service?: string[];
  readonly mode?: string;
  readonly tun?: string;
  readonly port?: string;
}

type Config = ConnectorConfig & { readonly dir: string };

export function register(program: Command, context: CommandContext): void {
  const command = program
    .command('connector')
    .option('--join-file <file>', 'file with the join token, for the first start')
    .option('--join <token>', 'the join token itself, or - for standard input (SALLYPORT_JOIN in the environment)')
    .option(
      '--service <id=url>',
      'where a service really is, for example web=tcp://10.0.0.5:80; overrides the invitation',
      many,
    )
    .option('--mode <mode>', 'engine (flows end here) or kernel (root: the kernel routes them; for whole networks)')
    .option('--tun <name>', 'name of the TUN device of mode kernel (default sallyport1)')
    .option('--port <number>', 'local UDP port (default: an ephemeral one)')
    .option('--dir <dir>', 'state folder');
  addRoleOptions(addDirectOptions(command)).action((flags: ConnectorFlags) => run(flags, context));
}

async function run(flags: ConnectorFlags, context: CommandContext): Promise<void> {
  const { config: file, service, port, peerPrefix: peerPrefixes, ...rest } = flags;
  const services = service === undefined ? undefined : Object.fromEntries(service.map(splitService));
  const given = { ...rest, port: numberText(port), services, peerPrefixes, ...switchedOff(flags) };
  const live = await LiveConfig.read<typeof ConnectorConfig, Config>(
    ConnectorConfig,
    'connector',
    file,
    given,
    ['services', 'path'],
    context,
  );
  const config = live.current;
  const { dir } = config;
  const log = createLog('connector', config.logLevel, process.stderr.isTTY);
  makeFolder(dir);
  process.exitCode = await runRole({
    role: 'connector',
    dir,
    log,
    crypto: context.crypto,
    exitAfter: config.exitAfter,
    start: async (onDeath, limited) => {
      const { crypto } = context;
      const source = { join: config.join, joinFile: config.joinFile, isArgument: flags.join !== undefined };
      const state = await enrolledNode('connector', dir, source, context);
      const connector = await startConnector({
        state,
        services: config.services,
        mode: config.mode,
        tunName: config.tun,
        port: config.port,
        direct: directSettings(config),
        portMapping: config.portMapping && config.path !== 'relay',
        relayTcp: config.relayTcp,
        crypto,
        log: limited,
        onDeath,
      });
      log.info({ network: state.network, name: state.name }, 'connector started');
      return {
        status: async () => ({ network: state.network, name: state.name, ...(await connector.status()) }),
        reload: () => live.reload(log, (next) => connector.reload(next.services, next.path)),
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
