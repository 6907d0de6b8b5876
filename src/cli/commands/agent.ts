/** `sallyport agent`: runs an agent on the user's side. */
import type { Command } from 'commander';
import { startAgent } from '../../agent/run.js';
import { makeFolder } from '../../identity/files.js';
import { AgentConfig, loadConfig } from '../config.js';
import type { CommandContext } from '../context.js';
import { enrolledNode } from '../enrolled-node.js';
import { createLog } from '../log.js';
import { runRole } from '../role.js';

interface AgentFlags {
  readonly config?: string;
  readonly dir?: string;
  readonly join?: string;
  readonly joinFile?: string;
  readonly mode?: string;
  readonly tun?: string;
  readonly socks?: string;
  readonly http?: string;
  readonly forward?: string[];
  readonly port?: string;
  readonly logLevel?: string;
}

export function register(program: Command, context: CommandContext): void {
  const many = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];
  program
    .command('agent')
    .description('run an agent: gives this machine’s programs access to services')
    .option('--join-file <file>', 'file with the join token, for the first start')
    .option('--join <token>', 'the join token itself, or - for standard input (SALLYPORT_JOIN in the environment)')
    .option('--mode <mode>', 'auto (a TUN device when allowed, else proxies), tun or proxy')
    .option('--tun <name>', 'name of the TUN device (default sallyport0)')
    .option('--socks <address:port|off>', 'SOCKS 5 proxy of proxy mode (default 127.0.0.1:1080)')
    .option('--http <address:port|off>', 'HTTP CONNECT proxy of proxy mode (default 127.0.0.1:8118)')
    .option('--forward <listen=service[:port]>', 'local port that stands for a service, in proxy mode', many)
    .option('--port <number>', 'local UDP port (default: an ephemeral one)')
    .option('--dir <dir>', 'state folder')
    .option('--config <file>', 'configuration file')
    .option('--log-level <level>', 'trace, debug, info, warn, error or silent')
    .action((flags: AgentFlags) => run(flags, context));
}

async function run(flags: AgentFlags, context: CommandContext): Promise<void> {
  const { config: file, forward, port, ...rest } = flags;
  const given = {
    ...rest,
    ...(port === undefined ? {} : { port: Number(port) }),
    ...(forward === undefined ? {} : { forwards: forward }),
  };
  const config = loadConfig(AgentConfig, 'agent', file, given, context.environment);
  const dir = config.dir!;
  const log = createLog('agent', config.logLevel, process.stderr.isTTY);
  makeFolder(dir);
  process.exitCode = await runRole({
    role: 'agent',
    dir,
    log,
    start: async (onDeath) => {
      const { crypto } = context;
      const source = { join: config.join, joinFile: config.joinFile, isArgument: flags.join !== undefined };
      const state = await enrolledNode('agent', dir, source, context);
      const agent = await startAgent({
        state,
        mode: config.mode,
        tunName: config.tun,
        socks: config.socks === 'off' ? undefined : config.socks,
        http: config.http === 'off' ? undefined : config.http,
        forwards: config.forwards,
        port: config.port,
        crypto,
        log,
        onDeath,
      });
      const { mode, tun, reason, listeners } = agent.device;
      if (reason !== undefined) log.warn({}, `no TUN device, running as a proxy: ${reason}`);
      for (const one of listeners) {
        if (one.isExposed) log.warn({ address: one.address }, 'other machines may reach this proxy and use it as you');
      }
      const addresses = Object.fromEntries(listeners.map((one) => [one.kind, one.address]));
      log.info(
        { network: state.network, name: state.name, mode, ...(tun === undefined ? {} : { tun }), ...addresses },
        'agent started',
      );
      return {
        status: async () => ({ network: state.network, name: state.name, ...(await agent.status()) }),
        stop: () => agent.stop(),
      };
    },
  });
}
