/**
 * Sallyport for a long time, in three namespaces with real programs: packets, then reconnects.
 *
 *   start ─► warm-up ─► packets: (TCP down, TCP up, UDP, short flows, silence, sample) … ─► reconnects of other agents …
 *         ─► rest, sample ─► relay restarts … ─► agent restarts …
 *
 * In the packet phase and while other agents come and go no process is restarted; while the relay is, agent and connector live on; while the agent is, relay and
 * connector do. Memory and descriptors of those that live on must be flat.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { AgentThreadStatus } from '../../src/agent/thread-protocol.js';
import { SallyportError } from '../../src/base/error.js';
import { Seconds } from '../../src/base/time.js';
import { askLocal } from '../../src/os/local-control.js';
import { Lab } from '../../test/lab/lab.js';
import { pollUntil } from '../../test/lab/process.js';
import { REPOSITORY, startIperf, startTcp, startUdpEcho } from '../../test/lab/services.js';
import { ADDRESSES, type StandardTopology, standardTopology } from '../../test/lab/topology.js';
import { measureTcp, measureUdp } from '../measure/iperf.js';
import { groupUsage } from '../measure/usage.js';
import { type RoleName, SallyportNetwork, VIRTUAL_IP } from '../subjects/sallyport-network.js';
import type { SoakPlan } from './plan.js';
import { Reconnects } from './reconnects.js';
import { gcPauses, sampleProcess } from './sample.js';
import { growth, ROLE_NAMES, type SoakSample } from './verdict.js';

const IPERF_PORT = 5201;
const ECHO_PORT = 7;
const FLOWS = 8;
const PARALLEL_FLOWS = 8;
/** Offered payload, Mbit/s, and payload bytes: small packets, so that they are many. */
const UDP_RATE = 200;
const UDP_SIZE = 500;
/** Short flows, one after the other, whose median time is the latency of a sample. */
const TIMED_FLOWS = 50;
const READY_LIMIT = Seconds(60);
/** LabProcess keeps no more of a program's output than this; what was printed earlier is gone. */
const OUTPUT_KEPT = 8 * 1024 * 1024;

/** Wake-ups a second of a process while nobody sends anything, and its resident memory then. */
export interface IdleFigures {
  readonly seconds: number;
  readonly wakeUpsPerSecond: number;
  readonly rssBytes: number;
}

export interface SoakResult {
  readonly samples: readonly SoakSample[];
  readonly packets: number;
  readonly shortFlows: { readonly done: number; readonly failed: number };
  readonly relayRestarts: number;
  readonly agentRestarts: number;
  /** Not in reports from before there were any. */
  readonly reconnects?: { readonly done: number; readonly failed: number };
  /** Of the longest silence. */
  readonly idle: Readonly<Record<RoleName, IdleFigures>>;
  /** Pauses of garbage collection over CPU time, under load. */
  readonly gcShare: Readonly<Record<RoleName, number>>;
  /** What was not flat. */
  readonly problems: readonly string[];
}

export async function runSoak(plan: SoakPlan, tell: (line: string) => void): Promise<SoakResult> {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-soak-'));
  const lab = new Lab();
  try {
    const topology = standardTopology(lab, { serviceClosed: false });
    await startIperf(topology.service, { port: IPERF_PORT });
    await startTcp(topology.service, 'echo', { port: ECHO_PORT });
    await startUdpEcho(topology.service, { port: ECHO_PORT });
    const { user, relay, service } = topology;
    const [relayAddress, serviceAddress] = [ADDRESSES.relay.v4, ADDRESSES.service.v4];
    const network = await SallyportNetwork.start({ user, relay, service, relayAddress, serviceAddress }, folder, [
      '--trace-gc',
    ]);
    const soak = new Soak(plan, topology, network, tell);
    const result = await soak.run();
    await network.stop();
    return result;
  } finally {
    await lab.destroy();
    rmSync(folder, { recursive: true, force: true });
  }
}

class Soak {
  private readonly begun = performance.now();
  private readonly samples: SoakSample[] = [];
  private readonly flows = { done: 0, failed: 0 };
  private readonly reconnected = { done: 0, failed: 0 };
  private readonly reconnectProblems = new Set<string>();
  private readonly pauses = { relay: 0, connector: 0, agent: 0 };
  private readonly busy = { relay: 0, connector: 0, agent: 0 };
  private idle: Record<RoleName, IdleFigures> | undefined;
  /** Of links that are gone, and of the present one. */
  private earlierPackets = 0;
  private linkPackets = 0;

  constructor(
    private readonly plan: SoakPlan,
    private readonly topology: StandardTopology,
    private readonly network: SallyportNetwork,
    private readonly tell: (line: string) => void,
  ) {}

  async run(): Promise<SoakResult> {
    const { plan } = this;
    await this.ready();
    // Compiles code and sizes buffers, which is not growth.
    await this.load(plan.loadSeconds);
    const phaseBegun = performance.now();
    for (let cycle = 1; ; cycle++) {
      await this.measuredLoad(plan.loadSeconds);
      await this.shortFlows(plan.shortFlows);
      await this.silence(cycle % plan.longIdleEvery === 0 ? plan.longIdleSeconds : plan.idleSeconds);
      await this.sample('packets');
      if (this.packets >= plan.packets || performance.now() - phaseBegun >= plan.seconds * 1000) break;
    }
    await this.reconnects(plan.reconnects, plan.reconnectSamples);
    await delay(plan.idleSeconds * 1000);
    await this.sample('rest');
    await this.restarts('relay', plan.relayRestarts);
    await this.restarts('agent', plan.agentRestarts);
    const of = (phase: string): SoakSample[] => this.samples.filter((sample) => sample.phase === phase);
    return {
      samples: this.samples,
      packets: this.packets,
      shortFlows: this.flows,
      relayRestarts: plan.relayRestarts,
      agentRestarts: plan.agentRestarts,
      reconnects: this.reconnected,
      idle: this.idle!,
      gcShare: perRole((role) => (this.busy[role] === 0 ? 0 : this.pauses[role] / 1000 / this.busy[role])),
      problems: [
        ...growth(of('packets'), ROLE_NAMES),
        // Agents that come and go fill buffers that are kept for the next ones: what counts is what is left of it afterwards.
        ...growth([of('packets').at(-1)!, of('rest')[0]!], ROLE_NAMES).map(
          (problem) => `after the reconnects: ${problem}`,
        ),
        ...growth(of('relay restarts'), ['connector', 'agent']),
        ...growth(of('agent restarts'), ['relay', 'connector']),
        ...[...this.reconnectProblems].map((problem) => `a reconnect failed: ${problem}`),
        ...(this.flows.failed === 0 ? [] : [`${this.flows.failed} short flows failed`]),
      ],
    };
  }

  private get packets(): number {
    return this.earlierPackets + this.linkPackets;
  }

  private pid(role: RoleName): number {
    return this.network.processes[role].pid;
  }

  /** Until a flow is answered. */
  private async ready(): Promise<void> {
    const answered = async (): Promise<boolean> => {
      const dead = ROLE_NAMES.find((role) => !this.network.processes[role].running);
      if (dead !== undefined) {
        const said = this.network.processes[dead].stderr.slice(-500);
        throw new SallyportError('bug', 'SOAK_ROLE_ENDED', `${dead} ended: ${said}`);
      }
      return (await this.flow(1, 1)).done === 1;
    };
    await pollUntil('an answer', answered, READY_LIMIT);
  }

  private async load(seconds: number): Promise<void> {
    const target = { user: this.topology.user, address: VIRTUAL_IP, port: IPERF_PORT };
    await measureTcp(target, { flows: FLOWS, direction: 'down', seconds });
    await measureTcp(target, { flows: FLOWS, direction: 'up', seconds });
    await measureUdp(target, { rate: UDP_RATE, size: UDP_SIZE, seconds });
  }

  /** Load, and which share of the processes' time went into collecting garbage. */
  private async measuredLoad(seconds: number): Promise<void> {
    const before = perRole((role) => ({
      printed: this.network.processes[role].stdout.length,
      cpu: groupUsage([this.pid(role)]).cpuSeconds,
    }));
    await this.load(seconds);
    for (const role of ROLE_NAMES) {
      const { stdout } = this.network.processes[role];
      if (stdout.length >= OUTPUT_KEPT) continue;
      this.pauses[role] += gcPauses(stdout.slice(before[role].printed));
      this.busy[role] += groupUsage([this.pid(role)]).cpuSeconds - before[role].cpu;
    }
  }

  private async shortFlows(count: number): Promise<void> {
    const { done, failed } = await this.flow(count, PARALLEL_FLOWS);
    this.flows.done += done;
    this.flows.failed += failed;
  }

  private async flow(count: number, parallel: number): Promise<{ done: number; failed: number; p50: number }> {
    const file = join(REPOSITORY, 'bench', 'programs', 'short-flows.mjs');
    const sizes = ['--count', String(count), '--parallel', String(parallel)];
    const argv = [process.execPath, file, VIRTUAL_IP, String(ECHO_PORT), ...sizes];
    const { stdout } = await this.topology.user.exec(argv, { timeout: Seconds(300) });
    return JSON.parse(stdout) as { done: number; failed: number; p50: number };
  }

  private async silence(seconds: number): Promise<void> {
    const before = perRole((role) => sampleProcess(this.pid(role)).wakeUps);
    const begun = performance.now();
    await delay(seconds * 1000);
    const took = (performance.now() - begun) / 1000;
    if (this.idle !== undefined && took < this.idle.agent.seconds) return;
    this.idle = perRole((role) => {
      const { wakeUps, rssBytes } = sampleProcess(this.pid(role));
      return { seconds: took, wakeUpsPerSecond: (wakeUps - before[role]) / took, rssBytes };
    });
  }

  /** Other agents come and go, as many more than are asked for as between two samples. */
  private async reconnects(count: number, samples: number): Promise<void> {
    const { network, topology } = this;
    const folders = { operatorFolder: network.operatorFolder, relayFolder: network.stateFolder('relay') };
    const { group, service, connector, relayAddress } = network.names;
    const comers = await Reconnects.start(
      { host: topology.user, group, ...folders },
      { relay: relayAddress, service, connector, target: [VIRTUAL_IP, ECHO_PORT] },
    );
    const share = Math.max(1, Math.floor(count / samples));
    // Sizes tables and buffers, which is not growth.
    for (let left = count + share; left > 0; left -= share) {
      const { done, failed, problems } = await comers.run(Math.min(share, left));
      this.reconnected.done += done;
      this.reconnected.failed += failed;
      for (const problem of Object.keys(problems)) this.reconnectProblems.add(problem);
      if (left <= count) await this.sample('reconnects');
    }
    await comers.stop();
  }

  private async restarts(role: RoleName, count: number): Promise<void> {
    for (let done = 1; done <= count; done++) {
      await this.network.restart(role);
      await this.ready();
      if (done % this.plan.restartsPerSample === 0) await this.sample(`${role} restarts`);
    }
  }

  private async sample(phase: string): Promise<void> {
    const { p50 } = await this.flow(TIMED_FLOWS, 1);
    const status = (await askLocal(this.network.stateFolder('agent'), { command: 'status' })) as AgentThreadStatus;
    const packets = status.sessions.reduce(
      (sum, { link }) => sum + (link === undefined ? 0 : link.packets.in + link.packets.out),
      0,
    );
    // A new link counts from nothing.
    if (packets < this.linkPackets) this.earlierPackets += this.linkPackets;
    this.linkPackets = packets;
    const roles = perRole((role) => sampleProcess(this.pid(role)));
    const at = (performance.now() - this.begun) / 1000;
    this.samples.push({ phase, at, packets: this.packets, flowP50: p50, roles });
    const memory = ROLE_NAMES.map((role) => `${role} ${(roles[role].rssBytes / 1e6).toFixed(0)} MB`).join(', ');
    this.tell(`${at.toFixed(0)} s, ${phase}: ${this.packets} packets, ${memory}, a flow ${p50.toFixed(0)} µs`);
  }
}

function perRole<T>(make: (role: RoleName) => T): Record<RoleName, T> {
  return { relay: make('relay'), connector: make('connector'), agent: make('agent') };
}
