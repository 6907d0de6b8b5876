/** `sallyport netcheck`: what the network before this machine lets through, measured with the help of the relay. */
import type { Command } from 'commander';
import { SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import { loadNode } from '../../identity/node-state.js';
import { knownRelays } from '../../node/known-relays.js';
import { LIFETIME_SPANS } from '../../node/netcheck/lifetime.js';
import { type NetcheckReport, netcheck } from '../../node/netcheck/report.js';
import { resolveHost } from '../../node/relay-name.js';
import { defaultGateway4 } from '../../os/linux/host-network.js';
import { askLocal } from '../../os/local-control.js';
import type { CommandContext } from '../context.js';
import { netcheckText } from '../netcheck-text.js';
import { many } from '../role-options.js';
import { stateFolder } from '../state-folder.js';
import type { RoleStatus } from '../status-types.js';

interface Options {
  readonly dir?: string;
  readonly relay?: string[];
  readonly lifetime?: boolean;
  readonly json?: boolean;
}

/** What a role that runs on the state folder adds to the measurements. */
export interface RunningView {
  /** ADDRESS:PORT where the relay sees the role's own socket. */
  readonly publicAddress: string | undefined;
  readonly relayState: string;
  /** Largest IP payload that a link of a session carries now, in bytes; undefined: no link. */
  readonly largestDatagram: number | undefined;
}

export type NetcheckResult = NetcheckReport & { readonly running: RunningView | undefined };

const HOST_PORT = /^(\[[0-9a-fA-F:.]+\]|[^:\s[\]]+):\d{1,5}$/;

export function register(program: Command, context: CommandContext): void {
  program
    .command('netcheck')
    .option(
      '--relay <host:port>',
      'ask this relay (may be given several times; default: the one of the state folder)',
      many,
    )
    .option('--lifetime', 'measure how long the NAT keeps an idle mapping, too; up to five minutes')
    .option('--dir <dir>', 'state folder of an agent or a connector')
    .option('--json', 'for machines')
    .action((options: Options) => run(options, context));
}

async function run(options: Options, context: CommandContext): Promise<void> {
  const { entropy } = context;
  const dir = stateFolder(options.dir, context.environment);
  const names = options.relay ?? knownRelays(loadNode(dir)).map(({ quic }) => quic);
  const relays = await addressesOf(names);
  const lifetimeSpans = options.lifetime === true ? LIFETIME_SPANS : undefined;
  const [report, running] = await Promise.all([
    netcheck({ relays, entropy, lifetimeSpans, gateway: defaultGateway4(), isBackground: false }),
    options.relay === undefined ? runningView(dir) : undefined,
  ]);
  const result: NetcheckResult = { ...report, running };
  context.out(options.json === true ? JSON.stringify(result, undefined, 2) : netcheckText(result));
}

/** @throws SallyportError RELAY_ADDRESS (caller), RELAY_NOT_FOUND (environment). */
async function addressesOf(names: readonly string[]): Promise<SocketAddress[]> {
  const addresses: SocketAddress[] = [];
  for (const name of names) {
    if (!HOST_PORT.test(name)) {
      throw new SallyportError(
        'caller',
        'RELAY_ADDRESS',
        `${name} is not HOST:PORT, for example relay.example.com:4433`,
      );
    }
    const resolved = await resolveHost(name);
    if (resolved.problem !== undefined) throw new SallyportError('environment', 'RELAY_NOT_FOUND', resolved.problem);
    addresses.push(...resolved.addresses.map((text) => SocketAddress.parse(text)!));
  }
  return addresses;
}

/** Undefined when no agent or connector runs there. */
async function runningView(dir: string): Promise<RunningView | undefined> {
  let status: RoleStatus;
  try {
    status = (await askLocal(dir, { command: 'status' })) as RoleStatus;
  } catch (error) {
    if (error instanceof SallyportError && error.code === 'NOT_RUNNING') return undefined;
    throw error;
  }
  if (status.role !== 'agent' && status.role !== 'connector') return undefined;
  const sizes = status.sessions.flatMap(({ link }) => (link === undefined ? [] : [link.maxDatagram]));
  return {
    publicAddress: status.relay.observed,
    relayState: status.relay.state,
    largestDatagram: sizes.length === 0 ? undefined : Math.max(...sizes),
  };
}
