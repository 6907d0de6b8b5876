/**
 * One host of the laboratory: a network namespace with a name, commands to run in it, and its kernel settings. A host reaches
 * only what it is linked to; none has a way out of the laboratory.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { SallyportError } from '../../src/base/error.js';
import { type Duration, Seconds } from '../../src/base/time.js';
import { MAX_INTERFACE_NAME } from './naming.js';
import { LabProcess, type SpawnOptions } from './process.js';

const DEFAULT_EXEC_TIMEOUT = Seconds(60);

export interface ExecOptions extends SpawnOptions {
  readonly timeout?: Duration;
  /** False: a non-zero exit code is a result, not an error. */
  readonly check?: boolean;
}

export interface ExecResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class Host {
  readonly name: string;
  /** The namespace as `ip netns` knows it. */
  readonly namespace: string;
  private readonly processes: Set<LabProcess>;
  private readonly interfaces = new Set<string>();

  /** Hosts are made by `Lab.host`; `processes` is where the laboratory keeps what it has to end. */
  constructor(name: string, namespace: string, processes: Set<LabProcess>) {
    this.name = name;
    this.namespace = namespace;
    this.processes = processes;
  }

  /** Starts a program in this host. It is ended with the laboratory at the latest. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): LabProcess {
    const started = new LabProcess(['ip', 'netns', 'exec', this.namespace, ...argv], options);
    this.processes.add(started);
    void started.exited.then(() => this.processes.delete(started));
    return started;
  }

  /** Runs a program to its end. Rejects with LAB_COMMAND_FAILED (unless `check` is false) or LAB_TIMEOUT. */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const started = this.spawn(argv, options);
    let late = false;
    const timer = setTimeout(
      () => {
        late = true;
        started.killGroup();
      },
      (options.timeout ?? DEFAULT_EXEC_TIMEOUT) / 1_000,
    );
    const status = await started.exited;
    clearTimeout(timer);
    const shown = `${this.name}: ${argv.join(' ')}`;
    const output = `${started.stdout.slice(-2000)}${started.stderr.slice(-2000)}`;
    if (late) throw new SallyportError('environment', 'LAB_TIMEOUT', `${shown}: not done in time\n${output}`);
    if (options.check !== false && status.code !== 0) {
      const how = status.signal ?? `exit code ${status.code}`;
      throw new SallyportError('environment', 'LAB_COMMAND_FAILED', `${shown}: ${how}\n${output}`);
    }
    return { code: status.code ?? -1, stdout: started.stdout, stderr: started.stderr };
  }

  /** `ip -n NAMESPACE …`, at once. Throws LAB_COMMAND_FAILED. */
  ip(...argv: readonly string[]): string {
    return run(['ip', '-n', this.namespace, ...argv]);
  }

  /** Loads nftables rules into this host. Throws LAB_COMMAND_FAILED. */
  nft(rules: string): void {
    run(['ip', 'netns', 'exec', this.namespace, 'nft', '-f', '-'], rules);
  }

  /** Sets kernel parameters of this namespace, for example `{'net.ipv4.ip_forward': 1}`. */
  sysctl(settings: Readonly<Record<string, string | number>>): void {
    const pairs = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
    run(['ip', 'netns', 'exec', this.namespace, 'sysctl', '-qw', ...pairs]);
  }

  /** The /etc/resolv.conf that programs started in this host from now on see. */
  resolver(...servers: readonly string[]): void {
    mkdirSync(this.configDirectory, { recursive: true });
    writeFileSync(`${this.configDirectory}/resolv.conf`, servers.map((server) => `nameserver ${server}\n`).join(''));
  }

  /** Where `ip netns exec` looks for files that replace those of /etc. */
  get configDirectory(): string {
    return `/etc/netns/${this.namespace}`;
  }

  /** Takes an interface name that starts with `wanted`, short enough and unused in this host. */
  reserveInterface(wanted: string): string {
    for (let number = 0; ; number++) {
      const suffix = number === 0 ? '' : String(number);
      const name = wanted.slice(0, MAX_INTERFACE_NAME - suffix.length) + suffix;
      if (this.interfaces.has(name)) continue;
      this.interfaces.add(name);
      return name;
    }
  }

  /** The interface is gone: its name may be taken again. */
  releaseInterface(name: string): void {
    this.interfaces.delete(name);
  }
}

/** Runs a short command at once. Throws LAB_COMMAND_FAILED with what it printed. */
export function run(argv: readonly string[], input = ''): string {
  try {
    return execFileSync(argv[0]!, argv.slice(1), { input, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });
  } catch (cause) {
    const stderr = (cause as { stderr?: string }).stderr ?? '';
    const message = `${argv.join(' ')}: ${stderr.trim() || (cause as Error).message}`;
    throw new SallyportError('environment', 'LAB_COMMAND_FAILED', message, { cause });
  }
}
