/** `sallyport agent`: runs an agent on the user's side. */
import type { Command } from 'commander';
import { type RunningAgent, startAgent } from '../../agent/run.js';
import type { ProxyOptions } from '../../agent/thread-protocol.js';
import type { Log } from '../../base/log.js';
import { makeFolder } from '../../identity/files.js';
import { AgentConfig } from '../config.js';
import type { CommandContext } from '../context.js';
import { enrolledNode } from '../enrolled-node.js';
import { numberText } from '../key-text.js';
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

interface AgentFlags extends RoleFlags, DirectFlags {
  readonly join?: string;
  readonly joinFile?: string;
  readonly mode?: string;
  readonly tun?: string;
  readonly socks?: string;
  readonly http?: string;
  readonly forward?: string[];
  readonly allow?: string[];
  readonly port?: string;
}

type Config = AgentConfig & { readonly dir: string };

/** Keys that a reload may change. */
const LIVE = ['socks', 'http', 'forwards', 'allow', 'users', 'path'] as const;

export function register(program: Command, context: CommandContext): void {
  const command = program
    .command('agent')
    .option('--join-file <file>', 'file with the join token, for the first start')
    .option('--join <token>', 'the join token itself, or - for standard input (SALLYPORT_JOIN in the environment)')
    .option('--mode <mode>', 'auto (a TUN device when allowed, else proxies), tun or proxy')
    .option('--tun <name>', 'name of the TUN device (default sallyport0)')
    .option('--socks <address:port|off>', 'SOCKS 5 proxy of proxy mode, TCP and UDP (default 127.0.0.1:1080)')
    .option('--http <address:port|off>', 'HTTP proxy of proxy mode (default 127.0.0.1:8118)')
    .option(
      '--forward <[udp://]listen=service[:port]>',
      'local TCP or UDP port that stands for a service, in proxy mode',
      many,
    )
    .option('--allow <prefix>', 'who may use the proxies besides this machine, for example 192.168.1.0/24', many)
    .option('--port <number>', 'local UDP port (default: an ephemeral one)')
    .option('--dir <dir>', 'state folder');
  addRoleOptions(addDirectOptions(command)).action((flags: AgentFlags) => run(flags, context));
}

async function run(flags: AgentFlags, context: CommandContext): Promise<void> {
  const { config: file, forward: forwards, peerPrefix: peerPrefixes, port, ...rest } = flags;
  const given = { ...rest, port: numberText(port), forwards, peerPrefixes, ...switchedOff(flags) };
  const live = await LiveConfig.read<typeof AgentConfig, Config>(AgentConfig, 'agent', file, given, LIVE, context);
  const config = live.current;
  const { dir } = config;
  const log = createLog('agent', config.logLevel, process.stderr.isTTY);
  makeFolder(dir);
  process.exitCode = await runRole({
    role: 'agent',
    dir,
    log,
    crypto: context.crypto,
    exitAfter: config.exitAfter,
    start: async (onDeath, limited) => {
      const { crypto } = context;
      const source = { join: config.join, joinFile: config.joinFile, isArgument: flags.join !== undefined };
      const state = await enrolledNode('agent', dir, source, context);
      const agent = await startAgent({
        state,
        mode: config.mode,
        tunName: config.tun,
        proxy: proxyOptions(config),
        port: config.port,
        direct: directSettings(config),
        portMapping: config.portMapping && config.path !== 'relay',
        relayTcp: config.relayTcp,
        crypto,
        log: limited,
        onDeath,
      });
      const { mode, tun, reason, listeners } = agent.device;
      if (reason !== undefined) log.warn({}, `no TUN device, running as a proxy: ${reason}`);
      warnExposed(agent, log);
      const addresses = Object.fromEntries(listeners.map((one) => [one.kind, one.address]));
      log.info(
        { network: state.network, name: state.name, mode, ...(tun === undefined ? {} : { tun }), ...addresses },
        'agent started',
      );
      return {
        status: async () => ({ network: state.network, name: state.name, ...(await agent.status()) }),
        reload: () =>
          live.reload(log, async (next) => {
            await agent.reload(proxyOptions(next), next.path);
            warnExposed(agent, log);
          }),
        stop: () => agent.stop(),
      };
    },
  });
}

function proxyOptions({ socks, http, forwards, allow, users }: Config): ProxyOptions {
  return {
    socks: socks === 'off' ? undefined : socks,
    http: http === 'off' ? undefined : http,
    forwards,
    allow,
    users,
  };
}

function warnExposed({ device }: RunningAgent, log: Log): void {
  for (const { address, isExposed } of device.listeners) {
    if (isExposed) log.warn({ address }, 'other machines that are allowed may reach this proxy and use it as you');
  }
}
