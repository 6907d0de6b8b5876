/**
 * A Sallyport network in the laboratory's standard topology, made with the real command line: init, invitations, a relay, a
 * connector beside the backend, and agents.
 *
 *   init ─► invite connector ─► relay ─► invite agents ─► connector "registered" ─► agents "relay-ready"
 */
import { execFile } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'vitest';
import type { AgentThreadStatus } from '../../src/agent/thread-protocol.js';
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../lab/host.js';
import { defaultRoutes, Lab } from '../lab/lab.js';
import { environment, type LabProcess } from '../lab/process.js';
import { startDns } from '../lab/services.js';
import { ADDRESSES, type StandardOptions, type StandardTopology, standardTopology } from '../lab/topology.js';
import { Role, sallyport } from './role.js';

export type { AgentThreadStatus } from '../../src/agent/thread-protocol.js';
export type { ConnectorThreadStatus } from '../../src/connector/thread-protocol.js';
export type { RelayThreadStatus } from '../../src/relay/thread-protocol.js';

/** A process that starts under load needs some seconds for itself. */
const START_LIMIT = Seconds(30);

type RelayFamily = 'v4' | 'v6' | 'both';

/** What a relay listens at; the last one takes enrolments too, of both families where it is IPv6. */
const LISTEN: Readonly<Record<RelayFamily, readonly string[]>> = {
  v4: ['0.0.0.0'],
  v6: ['[::]'],
  both: ['0.0.0.0', '[::]'],
};

export interface NetworkOptions {
  readonly topology?: StandardOptions;
  /** The relay's address family; default v4. `both` needs a name. */
  readonly family?: RelayFamily;
  /** The relay goes by this name, which a name server on the user's and on the service's host tells; default: its address. */
  readonly relayName?: string;
  /** What is changed in the topology before any program runs. */
  readonly prepare?: (topology: StandardTopology) => Promise<void> | void;
  /** Service id → backend URL, all served by the connector `office` and granted to the group `staff`. */
  readonly services: Readonly<Record<string, string>>;
  /** Services that nobody is granted. */
  readonly closedServices?: Readonly<Record<string, string>>;
  /** Arguments of the agent `alice`; default `--mode tun`. False: no agent yet. */
  readonly agent?: readonly string[] | false;
  /** The connector's `--path`; default relay, as most tests are about the way through it; `auto` is its own default, not said. */
  readonly path?: 'auto' | 'relay' | 'direct';
  /** The relay's environment, from the network's folder. */
  readonly relayEnv?: (folder: string) => Readonly<Record<string, string>>;
}

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface VirtualAddresses {
  readonly v4: string;
  readonly v6: string;
}

export class Network {
  readonly lab: Lab;
  readonly topology: StandardTopology;
  /** A short path: Unix sockets lie in folders below it. */
  readonly folder: string;
  readonly relay: Role;
  readonly connector: Role;
  readonly roles: Role[] = [];
  /** The name servers, when the relay goes by a name. */
  names: LabProcess[] = [];

  private constructor(lab: Lab, topology: StandardTopology, folder: string, family: RelayFamily, path: string) {
    this.lab = lab;
    this.topology = topology;
    this.folder = folder;
    const listen = LISTEN[family].flatMap((ip) => ['--listen', `${ip}:4433`]);
    const control = `${LISTEN[family].at(-1)!}:8443`;
    this.relay = this.role('relay', topology.relay, ['relay', ...listen, '--control', control]);
    const connector = ['connector', '--join-file', this.tokenFile('office')];
    const choice = path === 'auto' ? [] : ['--path', path];
    this.connector = this.role('office', topology.service, [...connector, ...choice]);
  }

  static async make(options: NetworkOptions): Promise<Network> {
    const lab = new Lab();
    const folder = mkdtempSync(join(tmpdir(), 'spl-e2e-'));
    try {
      const { family = 'v4' } = options;
      const topology = standardTopology(lab, options.topology ?? {});
      await options.prepare?.(topology);
      const network = new Network(lab, topology, folder, family, options.path ?? 'relay');
      const address = family === 'v6' ? `[${ADDRESSES.relay.v6}]` : ADDRESSES.relay.v4;
      const known = { v4: [ADDRESSES.relay.v4], v6: [ADDRESSES.relay.v6], both: Object.values(ADDRESSES.relay) };
      if (options.relayName !== undefined) network.names = await network.startNames(options.relayName, known[family]);
      await network.#init(options.relayName ?? address, options);
      await network.#startAll(options);
      return network;
    } catch (error) {
      await lab.destroy();
      rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** The agent `alice`. */
  get agent(): Role {
    return this.roles.find((one) => one.name === 'alice')!;
  }

  get operatorFolder(): string {
    return join(this.folder, 'net');
  }

  tokenFile(name: string): string {
    return join(this.folder, `${name}.token`);
  }

  /** Runs a command of the command line on the operator's machine. */
  command(...argv: readonly string[]): Promise<CommandResult> {
    return runCommand(sallyport(...argv));
  }

  /** Like `command`; rejects unless it succeeds. */
  async must(...argv: readonly string[]): Promise<string> {
    const result = await this.command(...argv);
    if (result.code !== 0) throw new Error(`sallyport ${argv.join(' ')}: exit ${result.code}\n${result.stderr}`);
    return result.stdout;
  }

  /** Writes a join token of an agent in the group `staff` to its token file, which everybody may read, and returns its path. */
  async inviteAgent(name: string, ...more: readonly string[]): Promise<string> {
    const file = this.tokenFile(name);
    writeFileSync(
      file,
      await this.must('invite', 'agent', name, '--group', 'staff', '--dir', this.operatorFolder, ...more),
    );
    return file;
  }

  /** A role that is not started yet; its folder is below the network's. */
  role(name: string, host: Host, argv: readonly string[], wrapper: readonly string[] = []): Role {
    const dir = join(this.folder, name);
    const role = new Role(name, host, dir, [...argv, '--dir', dir], wrapper);
    this.roles.push(role);
    return role;
  }

  /** Adds a relay beside the first, on its host unless another is given, and starts it; nodes that run hear of it by the first. */
  async addRelay(
    name: string,
    ports: { readonly quic: number; readonly control: number },
    place = { host: this.topology.relay, at: ADDRESSES.relay.v4 as string },
  ): Promise<Role> {
    const { quic, control } = ports;
    const { host, at } = place;
    const argv = [name, '--relay', `${at}:${quic}`, '--control', `${at}:${control}`, '--ca', this.relay.dir];
    await this.must('add-relay', ...argv, '--dir', this.operatorFolder);
    const added = this.role(name, host, [
      ...['relay', '--listen', `0.0.0.0:${quic}`, '--control', `0.0.0.0:${control}`, '--probe-port', String(quic + 1)],
    ]);
    cpSync(join(this.operatorFolder, `relay-${name}`), added.dir, { recursive: true });
    added.start();
    await added.waitForLog('relay ready', undefined, { timeout: START_LIMIT });
    copyFileSync(join(this.operatorFolder, 'operator', 'policy.json'), join(this.relay.dir, 'policy.json'));
    return added;
  }

  /** Invites an agent and gives its role, not started. */
  async newAgent(
    name: string,
    host: Host,
    argv: readonly string[] = ['--mode', 'tun'],
    wrapper: readonly string[] = [],
  ): Promise<Role> {
    const file = await this.inviteAgent(name);
    return this.role(name, host, ['agent', '--join-file', file, ...argv], wrapper);
  }

  /** The virtual addresses of a service, as the agent tells them. */
  async virtual(id: string): Promise<VirtualAddresses> {
    const { services } = await this.agent.status<AgentThreadStatus>();
    const service = services.find((one) => one.id === id)!;
    return { v4: service.virtualIp4!, v6: service.virtualIp6! };
  }

  /** Starts the name servers that know the relay as `name`. */
  async startNames(name: string, addresses: readonly string[] = [ADDRESSES.relay.v4]): Promise<LabProcess[]> {
    const { user, service } = this.topology;
    return Promise.all(
      [user, service].map((host) => {
        host.resolver('127.0.0.1');
        return startDns(host, { [name]: addresses }, { address: '127.0.0.1' });
      }),
    );
  }

  async startRelay(env: Readonly<Record<string, string>> = {}): Promise<void> {
    this.relay.start(env);
    await this.relay.waitForLog('relay ready', undefined, { timeout: START_LIMIT });
  }

  async startConnector(): Promise<void> {
    this.connector.start();
    await this.connector.waitForLog('registered', undefined, { timeout: START_LIMIT });
  }

  /** Starts an agent and waits until the relay has told it which services there are. */
  async startAgent(agent: Role = this.agent): Promise<void> {
    agent.start();
    await agent.waitForLog('relay-ready', undefined, { timeout: START_LIMIT });
    await agent.waitForLog('agent started', undefined, { timeout: START_LIMIT });
    await pollAvailable(agent);
  }

  /** To be called in `beforeEach`: when the test fails, every role's log is printed. */
  reportFailure(context: TestContext): void {
    context.onTestFailed(() => {
      console.error(this.roles.map((one) => one.describe()).join('\n'));
    });
  }

  async destroy(): Promise<void> {
    await this.lab.destroy();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #init(relayAddress: string, options: NetworkOptions): Promise<void> {
    const { operatorFolder } = this;
    await this.must('init', '--name', 'lab', '--relay', relayAddress, '--dir', operatorFolder);
    const services = (given: Readonly<Record<string, string>>): string[] =>
      Object.entries(given).flatMap(([id, url]) => ['--service', `${id}=${url}`]);
    const invite = ['invite', 'connector', 'office', '--dir', operatorFolder];
    if (options.closedServices !== undefined) await this.must(...invite, ...services(options.closedServices));
    writeFileSync(
      this.tokenFile('office'),
      await this.must(...invite, ...services({ ...options.services }), '--allow', 'staff'),
    );
    // The relay's own machine: it must not be able to read the operator's key.
    mkdirSync(this.relay.dir);
    cpSync(join(operatorFolder, 'relay'), this.relay.dir, { recursive: true });
    rmSync(join(operatorFolder, 'relay'), { recursive: true });
  }

  async #startAll(options: NetworkOptions): Promise<void> {
    const argv = options.agent ?? ['--mode', 'tun'];
    const agent = argv === false ? undefined : this.newAgent('alice', this.topology.user, argv);
    await this.startRelay(options.relayEnv?.(this.folder));
    await this.startConnector();
    if (agent !== undefined) await this.startAgent(await agent);
  }
}

/** Until the relay's catalogue has arrived: from then on a packet for any service finds its connector. */
async function pollAvailable(agent: Role): Promise<void> {
  await agent.waitForStatus<AgentThreadStatus>(
    'services to be available',
    ({ relay, services }) => relay.state === 'ready' && services.some((one) => one.available),
    START_LIMIT,
  );
}

/** Runs a program of this machine, outside the laboratory's networks, to its end. */
export function runCommand(
  argv: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv; readonly cwd?: string } = {},
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const settings = { env: environment(), ...options, encoding: 'utf8' } as const;
    const child = execFile(argv[0]!, argv.slice(1), settings, (error, stdout, stderr) => {
      const code = error === null ? 0 : (child.exitCode ?? -1);
      resolve({ code, stdout, stderr });
    });
  });
}

/** One more machine on a network of its own; `number` tells them apart. */
export function anotherUser({ lab, topology }: Network, name: string, number: number): Host {
  const host = lab.host(name);
  const at = (last: number): string[] => [`198.18.${number}.${last}/24`, `2001:db8:18:${number}::${last}/64`];
  lab.link({ host, addresses: at(2) }, { host: topology.net, addresses: at(1) });
  defaultRoutes(host, [`198.18.${number}.1`, `2001:db8:18:${number}::1`]);
  return host;
}
