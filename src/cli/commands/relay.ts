/** `sallyport relay`: runs a relay, with the enrolment endpoint beside it. */
import type { Command } from 'commander';
import { SocketAddress } from '../../base/address.js';
import { describeError } from '../../base/error.js';
import { Minutes, Seconds, toMillis } from '../../base/time.js';
import { createControlServer } from '../../control/server.js';
import { serveTcpRelay, type TcpRelay } from '../../control/tcp-relay.js';
import {
  checkRelayCertificate,
  loadRelayFolder,
  type RelayFolder,
  renewRelayIfDue,
} from '../../identity/relay-folder.js';
import { bridgeCounters } from '../../node/tcp-counters.js';
import { PolicyKeeper } from '../../policy/keeper.js';
import type { RelayLimits } from '../../relay/limits.js';
import { startRelay } from '../../relay/run.js';
import { RelayConfig } from '../config.js';
import type { CommandContext } from '../context.js';
import { numberText } from '../key-text.js';
import type { LimitedLog } from '../limited-log.js';
import { createLog, type LevelLog } from '../log.js';
import { type RoleProcess, runRole } from '../role.js';
import { addRoleOptions, LiveConfig, many, type RoleFlags } from '../role-options.js';

/** How often the relay's own certificate is looked at. */
const RENEWAL_CHECK = Minutes(60);
/** How often the policy file is looked at, besides SIGHUP: an operator who copies it need not know our pid. */
const POLICY_CHECK = Minutes(1 / 12);

interface RelayFlags extends RoleFlags {
  readonly listen?: string[];
  readonly control?: string;
  readonly allowOperatorKey?: boolean;
  readonly drain?: string;
  readonly probePort?: string;
}

type Config = RelayConfig & { readonly dir: string };
type Live = LiveConfig<typeof RelayConfig, Config>;

export function register(program: Command, context: CommandContext): void {
  const command = program
    .command('relay')
    .option('--dir <dir>', 'the relay/ folder that "sallyport init" made')
    .option(
      '--listen <address:port>',
      'UDP address to listen on, one per family (default 0.0.0.0:4433 and [::]:4433)',
      many,
    )
    .option('--control <address:port>', 'TCP address of the enrolment endpoint (default 0.0.0.0:8443)')
    .option(
      '--probe-port <port>',
      'second UDP port, by which nodes tell what NAT is before them (default 4434, 0 = none)',
    )
    .option('--allow-operator-key', 'start although the operator’s key is readable; for a demo on one machine')
    .option('--drain <seconds>', 'after SIGTERM, let packets pass for this long at most (default 3)');
  addRoleOptions(command).action((flags: RelayFlags) => run(flags, context));
}

async function run(flags: RelayFlags, context: CommandContext): Promise<void> {
  const { config: file, drain, probePort, ...rest } = flags;
  const given = { ...rest, drain: numberText(drain), probePort: numberText(probePort) };
  const live: Live = await LiveConfig.read(RelayConfig, 'relay', file, given, ['drain'], context);
  const config = live.current;
  const folder = loadRelayFolder(config.dir, config.allowOperatorKey);
  const log = createLog('relay', config.logLevel, process.stderr.isTTY);
  process.exitCode = await runRole({
    role: 'relay',
    dir: folder.dir,
    log,
    crypto: context.crypto,
    exitAfter: config.exitAfter,
    start: (onDeath, limited) => start(folder, live, context, log, limited, onDeath),
  });
}

async function start(
  folder: RelayFolder,
  live: Live,
  context: CommandContext,
  log: LevelLog,
  limited: LimitedLog,
  onDeath: Parameters<Parameters<typeof runRole>[0]['start']>[0],
): Promise<RoleProcess> {
  const { crypto, clock } = context;
  const config = live.current;
  const policy = new PolicyKeeper(crypto, folder.policyKey, folder.network);
  policy.offer(folder.policy);
  const relay = await startRelay({
    folder,
    listen: config.listen,
    probePort: config.probePort,
    limits: limitsOf(config),
    log: limited,
    onDeath,
  });
  const listen = SocketAddress.parse(config.control)!;
  let tcp: TcpRelay | undefined;
  const control = createControlServer({ folder, listen, policy, crypto, clock, log: limited });
  let certificatePem = folder.certificatePem;
  const renew = async (): Promise<void> => {
    const relays = policy.signed?.document.relays;
    const renewed = await renewRelayIfDue({ ...folder, certificatePem }, clock.wall(), relays);
    if (renewed === certificatePem) return;
    certificatePem = renewed;
    control.setCertificate(renewed);
    await relay.setIdentity(renewed, folder.keyPem);
    log.info({}, 'the relay’s certificate was renewed');
  };
  const takePolicy = async (envelope: unknown): Promise<void> => {
    if (!policy.offer(envelope)) return;
    const { version } = await relay.offerPolicy(envelope);
    log.info({ version }, 'new policy');
  };
  const readPolicy = (): Promise<void> => takePolicy(loadRelayFolder(folder.dir, true).policy);
  const reload = (): Promise<void> =>
    live.reload(log, async () => {
      const present = loadRelayFolder(folder.dir, true);
      checkRelayCertificate(present, folder, clock.wall());
      await takePolicy(present.policy);
      if (present.certificatePem === certificatePem) return;
      certificatePem = present.certificatePem;
      control.setCertificate(certificatePem);
      await relay.setIdentity(certificatePem, folder.keyPem);
      log.info({}, 'new certificate');
    });
  const quietly =
    (what: string, act: () => Promise<void>): (() => void) =>
    () => {
      act().catch((error: unknown) => log.error({ error: describeError(error) }, `${what} failed`));
    };
  const timers = [
    setInterval(quietly('renewal', renew), toMillis(RENEWAL_CHECK)),
    setInterval(quietly('reading the policy', readPolicy), toMillis(POLICY_CHECK)),
  ];
  for (const timer of timers) timer.unref();
  try {
    // Where another relay is asked, which may be away, the present certificate does for weeks.
    if (folder.authority === undefined) quietly('renewal', renew)();
    else await renew();
    const bound = await control.start();
    const status = await relay.status();
    tcp = serveTcpRelay(control.server, localAddress(status.listening), limited);
    log.info({ udp: status.listening, control: `${bound.host}:${bound.port}`, network: folder.network }, 'relay ready');
  } catch (error) {
    await relay.stop();
    throw error;
  }
  return {
    status: async () => {
      const status = await relay.status();
      const counters = { ...status.counters, ...(tcp && bridgeCounters([tcp.counters])) };
      return { network: folder.network, name: folder.name, ...status, counters };
    },
    reload,
    drain: () => relay.drain(Seconds(live.current.drain)),
    stop: async () => {
      for (const timer of timers) clearInterval(timer);
      await tcp?.stop();
      await Promise.all([control.stop(), relay.stop()]);
    },
  };
}

/** Where programs of this machine reach a listener; any address is loopback's too. */
function localAddress(listening: readonly string[]): { readonly address: string; readonly port: number } {
  const { ip, port } = SocketAddress.parse(listening[0]!)!;
  const isAny = (ip.w0 | ip.w1 | ip.w3) === 0;
  if (!isAny) return { address: `${ip}`, port };
  return { address: ip.isV4 ? '127.0.0.1' : '::1', port };
}

function limitsOf(config: RelayConfig): RelayLimits {
  return {
    channel: { bytes: config.channelBytes, packets: config.channelPackets },
    agent: { bytes: config.agentBytes, packets: config.agentPackets },
    connector: { bytes: config.connectorBytes, packets: config.connectorPackets },
  };
}
