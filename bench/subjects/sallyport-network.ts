/**
 * A Sallyport network as a user makes it, by the command line: a relay, a connector in front of one service of any port, an agent
 * with a TUN device. Each can be started again on its own.
 *
 *   user: agent (TUN) ══ relay ══ connector: engine ── service's own sockets          or mode kernel: TUN ── the host's kernel
 *
 * The operator invites before the relay starts, so that the policy the relay has been given knows the service already.
 */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../../test/lab/host.js';
import type { LabProcess } from '../../test/lab/process.js';
import { REPOSITORY } from '../../test/lab/services.js';

/** The program that is measured; another one can be named. */
export const PROGRAM = process.env['SALLYPORT_PROGRAM'] ?? join(REPOSITORY, 'program', 'cli', 'main.js');
/** In the range that services get their virtual addresses from. */
export const VIRTUAL_IP = '10.100.0.10';
export const DEVICE = 'sallyport0';

const QUIC_PORT = 4433;
const CONTROL_PORT = 8443;
const SERVICE = 'lab';
const GROUP = 'users';
const CONNECTOR = 'service';
/** Time for the graceful end that SIGTERM asks for. */
const STOP_TIME = Seconds(5);

/** Where the roles run; they may all be one host. */
export interface Places {
  readonly user: Host;
  readonly relay: Host;
  readonly service: Host;
  readonly relayAddress: string;
  /** Where the connector finds the service. */
  readonly serviceAddress: string;
}

export type RoleName = 'relay' | 'connector' | 'agent';

export class SallyportNetwork {
  private readonly places: Places;
  private readonly folder: string;
  private readonly nodeOptions: readonly string[];

  private readonly running = new Map<RoleName, LabProcess>();

  private readonly path: 'relay' | 'auto';
  private readonly mode: 'engine' | 'kernel';

  private constructor(
    places: Places,
    folder: string,
    nodeOptions: readonly string[],
    path: 'relay' | 'auto',
    mode: 'engine' | 'kernel',
  ) {
    this.path = path;
    this.mode = mode;
    this.places = places;
    this.folder = folder;
    this.nodeOptions = nodeOptions;
  }

  /** The present processes. */
  get processes(): Readonly<Record<RoleName, LabProcess>> {
    return Object.fromEntries(this.running) as Record<RoleName, LabProcess>;
  }

  /** Makes the network in `folder` and starts it; `nodeOptions` go to every role's Node. It need not carry packets yet. */
  static async start(
    places: Places,
    folder: string,
    nodeOptions: readonly string[] = [],
    path: 'relay' | 'auto' = 'relay',
    mode: 'engine' | 'kernel' = 'engine',
  ): Promise<SallyportNetwork> {
    const network = join(folder, 'network');
    mkdirSync(network);
    const operate = (...argv: string[]) => places.relay.exec([process.execPath, PROGRAM, ...argv, '--dir', network]);
    await operate('init', '--name', 'bench', '--relay', `${places.relayAddress}:${QUIC_PORT}`);
    const backend = `${SERVICE}=any://${places.serviceAddress},virtualIp=${VIRTUAL_IP}`;
    const forService = await operate('invite', 'connector', CONNECTOR, '--service', backend, '--allow', GROUP);
    const forUser = await operate('invite', 'agent', 'user', '--group', GROUP);
    writeFileSync(join(folder, 'connector.token'), forService.stdout, { mode: 0o600 });
    writeFileSync(join(folder, 'agent.token'), forUser.stdout, { mode: 0o600 });
    // A relay refuses to start where it can read the operator's key.
    renameSync(join(network, 'relay'), join(folder, 'relay'));
    const made = new SallyportNetwork(places, folder, nodeOptions, path, mode);
    const relay = made.spawn('relay');
    // Nodes that enrol ask once.
    await Promise.all([relay.waitForPort('udp', QUIC_PORT), relay.waitForPort('tcp', CONTROL_PORT)]);
    made.spawn('connector');
    made.spawn('agent');
    return made;
  }

  /** What it is all called, for further agents. */
  get names() {
    const relayAddress = `${this.places.relayAddress}:${QUIC_PORT}`;
    return { group: GROUP, service: SERVICE, connector: CONNECTOR, relayAddress };
  }

  get operatorFolder(): string {
    return join(this.folder, 'network');
  }

  /** State folder of a role. */
  stateFolder(role: RoleName): string {
    return join(this.folder, role);
  }

  /** Ends a role without warning and starts it again. */
  async restart(role: RoleName): Promise<void> {
    const { processes } = this;
    processes[role].signal('SIGKILL');
    await processes[role].exited;
    this.spawn(role);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.running.values()].map((started) => started.stop('SIGTERM', STOP_TIME)));
  }

  private spawn(role: RoleName): LabProcess {
    const dir = this.stateFolder(role);
    mkdirSync(dir, { recursive: true });
    const { places, folder } = this;
    const host = { relay: places.relay, connector: places.service, agent: places.user }[role];
    const argv = {
      relay: ['--listen', `0.0.0.0:${QUIC_PORT}`, '--control', `0.0.0.0:${CONTROL_PORT}`],
      connector: ['--join-file', join(folder, 'connector.token'), '--path', this.path, '--mode', this.mode],
      agent: ['--join-file', join(folder, 'agent.token'), '--mode', 'tun'],
    }[role];
    const program = [process.execPath, ...this.nodeOptions, PROGRAM, role];
    const started = host.spawn([...program, ...argv, '--dir', dir, '--log-level', 'warn']);
    this.running.set(role, started);
    return started;
  }
}
