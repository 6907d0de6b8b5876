/** `sallyport status`: what the role that runs on this state folder does now. */
import type { Command } from 'commander';
import { formatBytes, formatDuration } from '../../base/text.js';
import { Seconds } from '../../base/time.js';
import type { LinkStatus, RelayPlaceStatus, RelayStatus } from '../../node/link-status.js';
import type { FamilyReport } from '../../node/netcheck/report.js';
import type { NetworkView } from '../../node/portmap/keep-mapped.js';
import { askLocal } from '../../os/local-control.js';
import { PORTMAP_NAMES } from '../../tunnel/portmap/protocols.js';
import type { CommandContext } from '../context.js';
import { stateFolder } from '../state-folder.js';
import type { RoleStatus } from '../status-types.js';
import { table } from '../table.js';
import type { TracedStatus } from '../trace/role-traces.js';

export function register(program: Command, context: CommandContext): void {
  program
    .command('status')
    .option('--dir <dir>', 'state folder')
    .option('--json', 'for machines')
    .action(async (options: { readonly dir?: string; readonly json?: boolean }) => {
      const dir = stateFolder(options.dir, context.environment);
      const status = (await askLocal(dir, { command: 'status' })) as RoleStatus;
      context.out(options.json ? JSON.stringify(status, undefined, 2) : describe(status));
    });
}

function describe(status: RoleStatus): string {
  if (status.role === 'tun2socks') return describeTun2socks(status);
  const sections =
    status.role === 'agent'
      ? describeAgent(status)
      : status.role === 'connector'
        ? describeConnector(status)
        : describeRelay(status);
  const drops = Object.entries(status.drops).map(([reason, count]) => `${reason} ${count}`);
  if (status.traces !== undefined && status.traces.length > 0) sections.push(tracesTable(status.traces));
  if (drops.length > 0) sections.push(`dropped packets: ${drops.join(', ')}`);
  return sections.join('\n\n');
}

function describeTun2socks(status: Extract<RoleStatus, { role: 'tun2socks' }>): string {
  const { flows, sendPaused, metrics } = status;
  const counted = Object.entries(metrics.values).filter(([, value]) => value !== 0);
  const lines = [
    `tun2socks on ${status.device}, ${status.way}`,
    `flows: ${flows.tcp} tcp, ${flows.udp} udp, ${flows.echo} echo${sendPaused > 0 ? ` (${sendPaused} send slower than their program does)` : ''}`,
  ];
  if (status.echoAnsweredHere) lines.push('echo is answered here: nothing behind the engine is asked');
  return [
    lines.join('\n'),
    table(
      ['METRIC', 'VALUE'],
      counted.map(([name, value]) => [name, String(value)]),
    ),
  ].join('\n\n');
}

function describeAgent(status: Extract<RoleStatus, { role: 'agent' }>): string[] {
  const { device } = status;
  const how =
    device.mode === 'tun'
      ? `TUN device ${device.tun}, ${status.overlay.join(', ')}`
      : device.listeners.map((one) => `${one.kind} ${one.address}`).join(', ');
  const head = [
    `agent ${status.name} in network ${status.network}`,
    `packets: ${how}${device.reason === undefined ? '' : ` (${device.reason})`}`,
    relayLine(status.relay),
    ...networkLines(status),
    policyLine(status),
  ];
  const services = status.services.map((one) => [
    one.id,
    one.prefix ?? one.virtualIp4 ?? '',
    one.protocols.join('+'),
    one.ports,
    `${one.available ? 'available' : 'no connector now'}${one.path === undefined ? '' : `, ${one.path} only (operator)`}`,
  ]);
  const sessions = status.sessions.map((one) => [
    one.connector,
    one.state,
    ...linkCells(one.link),
    one.problem === '' ? one.reason : one.problem,
  ]);
  return [
    head.join('\n'),
    services.length === 0
      ? 'no services are granted'
      : table(['SERVICE', 'ADDRESS', 'PROTO', 'PORTS', 'STATE'], services),
    sessions.length === 0
      ? 'no sessions yet'
      : table(['CONNECTOR', 'STATE', 'PATH', 'RTT', 'PACKETS', 'SINCE', 'WHY'], sessions),
    ...relayTable(status.relays),
    ...linkTable(
      'CONNECTOR',
      status.sessions.map((one) => ({ peer: one.connector, ...one })),
    ),
  ];
}

function describeConnector(status: Extract<RoleStatus, { role: 'connector' }>): string[] {
  const head = [
    `connector ${status.name} in network ${status.network}`,
    relayLine(status.relay),
    ...networkLines(status),
    policyLine(status),
  ];
  if (status.mode === 'kernel') head.push(`mode kernel: the kernel routes packets of the device ${status.tun}`);
  if (status.echoAnsweredHere) {
    head.push('echo is answered by this connector, not by the services: the system permits no ICMP sockets here');
  }
  const services = status.services.map((one) => [
    one.id,
    one.backend,
    one.registration,
    one.resolved === undefined && !one.backend.includes('/', one.backend.indexOf('//') + 2)
      ? 'name has no address'
      : '',
  ]);
  const sessions = status.sessions.map((one) => [
    one.agent,
    ...linkCells(one.link),
    status.mode === 'kernel' ? 'the kernel’s' : `${one.flows.tcp} tcp, ${one.flows.udp} udp`,
    String(one.denied),
  ]);
  return [
    head.join('\n'),
    services.length === 0 ? 'no services' : table(['SERVICE', 'BACKEND', 'RELAY SAYS', ''], services),
    sessions.length === 0
      ? 'no sessions'
      : table(['AGENT', 'PATH', 'RTT', 'PACKETS', 'SINCE', 'FLOWS', 'DENIED'], sessions),
    ...relayTable(status.relays),
    ...linkTable(
      'AGENT',
      status.sessions.map((one) => ({ peer: one.agent, ...one })),
    ),
  ];
}

function describeRelay(status: Extract<RoleStatus, { role: 'relay' }>): string[] {
  const head = [
    `relay ${status.name} of network ${status.network}`,
    `listening on ${status.listening.join(', ')}; policy version ${status.policyVersion}`,
  ];
  if (status.nodesHiddenBy !== undefined) {
    head.push(
      `every node is seen from ${status.nodesHiddenBy}: something in front of this relay hides where they are (a load balancer, a container network)`,
    );
  }
  if (status.drainingSeconds !== undefined) head.push(`about to stop, in ${status.drainingSeconds} s at the latest`);
  const nodes = status.nodes.map((one) => [
    one.role,
    one.name,
    one.address,
    String(one.channels),
    since(one.secondsConnected),
    one.services.join(' '),
  ]);
  const channels = status.channels.map((one) => [
    one.agent,
    one.connector,
    `${one.packets.fromAgent} ↑ ${one.packets.fromConnector} ↓`,
    `${formatBytes(one.bytes.fromAgent)} ↑ ${formatBytes(one.bytes.fromConnector)} ↓`,
    `${one.dropped.fromAgent} ↑ ${one.dropped.fromConnector} ↓`,
  ]);
  return [
    head.join('\n'),
    nodes.length === 0 ? 'no nodes' : table(['ROLE', 'NAME', 'ADDRESS', 'CHANNELS', 'SINCE', 'SERVICES'], nodes),
    channels.length === 0 ? 'no channels' : table(['AGENT', 'CONNECTOR', 'PACKETS', 'BYTES', 'DROPPED'], channels),
  ];
}

function relayLine(relay: RelayStatus): string {
  const isTcp = relay.over === 'tcp' && relay.address !== undefined;
  const where = isTcp ? ' over TCP, as UDP does not reach it' : relay.address === undefined ? '' : ` ${relay.address}`;
  const seen = isTcp || relay.observed === undefined ? '' : `, which sees us as ${relay.observed}`;
  const problem = relay.problem === '' ? '' : `: ${relay.problem}`;
  return `relay${where}: ${relay.state} for ${since(relay.secondsInState)}${relay.state === 'ready' ? seen : ''}${problem}${relay.lies === 0 ? '' : `; ${relay.lies} statements not believed`}`;
}

/** Every relay of the network, where there are several: what it is to this node, and why. */
function relayTable(relays: readonly RelayPlaceStatus[]): string[] {
  if (relays.length < 2) return [];
  const rows = relays.map((one) => [
    one.name,
    one.place,
    one.why,
    one.place === 'resting' ? '' : one.isDraining ? 'about to stop' : one.state,
    one.rttMilliseconds === undefined ? '' : `${one.rttMilliseconds.toFixed(1)} ms`,
    one.address ?? '',
    one.state === 'ready' ? '' : one.problem,
  ]);
  return [table(['RELAY', 'PLACE', 'WHY', 'STATE', 'RTT', 'ADDRESS', ''], rows)];
}

function networkLines({ portMapping, nat }: NetworkView): string[] {
  const families = [nat?.ipv4, nat?.ipv6].map((family, index) =>
    family === undefined ? '' : `IPv${index === 0 ? 4 : 6} ${family.name}${idleText(family)}`,
  );
  const seen = families.filter((text) => text !== '').join(', ');
  return [
    ...(seen === '' ? [] : [`before this machine: ${seen} (sallyport netcheck)`]),
    ...portMappingLine(portMapping),
  ];
}

function idleText({ lifetime, keepAliveSeconds: every }: FamilyReport): string {
  if (lifetime === undefined || every === undefined) return '';
  return ` that keeps idle mappings ${lifetime.atLeast} s or more (kept alive every ${every.relay} s, direct ${every.direct} s)`;
}

function portMappingLine(portMapping: NetworkView['portMapping']): string[] {
  if (portMapping === undefined) return [];
  const { protocol, address, lifetime } = portMapping;
  return [`port mapping: ${address} by ${PORTMAP_NAMES[protocol]}, for ${formatDuration(Seconds(lifetime))}`];
}

function policyLine(status: { readonly policyVersion: number; readonly policyState: string }): string {
  if (status.policyState === 'none') return 'policy: none yet';
  const warning: Record<string, string> = {
    expiring: ' (ends within 14 days: sign a new one)',
    grace: ' (has ended; admits for one more day)',
    expired: ' (has ended: nothing new is admitted)',
  };
  return `policy: version ${status.policyVersion}${warning[status.policyState] ?? ''}`;
}

interface LinkedSession {
  readonly peer: string;
  readonly links: readonly LinkStatus[];
  /** Agents know why there is no direct link. */
  readonly direct?: string;
}

/** Every link of every session; no table when there is none. */
function linkTable(peer: string, sessions: readonly LinkedSession[]): string[] {
  const rows = sessions.flatMap(({ peer: name, links, direct }) => {
    const cells = links.map((link) => [
      name,
      `${viaOf(link)} ${link.number}`,
      link.remote,
      link.state,
      `${link.rttMilliseconds.toFixed(2)} ms`,
      link.why,
    ]);
    const isMissing = direct !== undefined && links.length > 0 && !links.some(({ via }) => via === 'direct');
    return isMissing ? [...cells, [name, 'direct', '', 'none', '', direct]] : cells;
  });
  return rows.length === 0 ? [] : [table([peer, 'LINK', 'PEER', 'STATE', 'RTT', 'WHY'], rows)];
}

/** The relay is named where it is not the only one, which `init` names so. */
function viaOf({ via, relay }: LinkStatus): string {
  return relay === undefined || relay === 'relay' ? via : `${via} ${relay}`;
}

function linkCells(link: LinkStatus | undefined): string[] {
  if (link === undefined) return ['none', '', '', ''];
  return [
    viaOf(link),
    `${link.rttMilliseconds.toFixed(2)} ms`,
    `${link.packets.out} ↑ ${link.packets.in} ↓`,
    since(link.secondsLive),
  ];
}

function since(seconds: number): string {
  return seconds === 0 ? '0 s' : formatDuration(Seconds(seconds));
}

/** The latest trace of each path: `sallyport trace --path`. */
function tracesTable(traces: readonly TracedStatus[]): string {
  const rows = traces.map(({ path, at, reached, rtt, loss, path_id, changed }) => [
    path,
    at.slice(0, 19),
    reached ? `${rtt.toFixed(2)} ms` : 'no answer',
    `${(loss * 100).toFixed(0)} %`,
    `${path_id}${changed ? ' changed' : ''}`,
  ]);
  return table(['TRACED', 'AT', 'RTT', 'LOSS', 'PATH'], rows);
}
