/**
 * The table people watch, within the columns of their terminal:
 *
 *   trace to example.com (198.51.100.2), udp port 33434
 *   HOP NAME              AS        LOSS   LAST    AVG   BEST  WORST    JTR
 *     1 gw.example.       AS64500     0%   0.21   0.22   0.20   0.25   0.02 ▆▇█
 *     2 *                           100%
 *     3 example.com.      AS64501     0%   9.80   9.91   9.80  10.10   0.15 ▇▇█
 *   end to end: 50 sent, 0% lost, best 9.80, avg 9.92, worst 10.30, jitter 0.11 ms  ▇▇█▇
 */
import type { IpAddress } from '../../base/address.js';
import type { NetworkInfo } from '../result.js';
import { endToEndStatistics } from '../statistics.js';
import type { HopReply, TraceProtocol } from '../types.js';
import type { PathRow } from './path-table.js';
import { milliseconds, percent, printable, shorten } from './text.js';

const BARS = '▁▂▃▄▅▆▇█';
const LOST = '×';
/** Widest a name or address gets: an IPv6 address has up to 39 characters. */
const NAME_LIMIT = 60;
const NAME_LEAST = 15;
const SPARK_LIMIT = 24;
const SPARK_LEAST = 4;
const NUMBER = 7;
/** HOP, LOSS and the five numbers, with the spaces between. */
const FIXED = 4 + 7 + 5 * NUMBER;

export interface TableView {
  readonly hostname: string;
  readonly protocol: TraceProtocol;
  /** Undefined until it is resolved. */
  readonly destination: { readonly address: IpAddress; readonly port: number } | undefined;
  readonly rows: readonly PathRow[];
  /** End-to-end RTTs so far, 0: lost, and how they are measured. */
  readonly endToEnd: readonly number[];
  readonly endToEndMethod: TraceProtocol;
  readonly names: ReadonlyMap<string, readonly string[]>;
  readonly networks: ReadonlyMap<string, NetworkInfo>;
  /** Show the country of registration. */
  readonly location: boolean;
  /** Hide private addresses. */
  readonly hidden: (ip: IpAddress) => boolean;
  /** What goes on, or how it ended; one line. */
  readonly state: string;
}

/** @param columns of the terminal, ≥ 1. */
export function renderTable(view: TableView, columns: number): string[] {
  const cells = view.rows.map((row) => ({ row, name: nameOf(row, view), network: networkOf(row, view) }));
  const networkWidth = Math.max(0, ...cells.map((one) => (one.network === '' ? 0 : one.network.length + 1)));
  const wanted = Math.max(NAME_LEAST, ...cells.map((one) => one.name.length));
  const room = columns - FIXED - networkWidth - SPARK_LEAST - 1;
  const nameWidth = Math.max(NAME_LEAST, Math.min(wanted, NAME_LIMIT, room));
  const sparkWidth = Math.max(0, Math.min(SPARK_LIMIT, columns - FIXED - networkWidth - nameWidth - 1));
  const head = [
    'HOP ',
    'NAME'.padEnd(nameWidth),
    networkWidth === 0 ? '' : ` ${'AS'.padEnd(networkWidth - 1)}`,
    ...['LOSS', 'LAST', 'AVG', 'BEST', 'WORST', 'JTR'].map((text) => text.padStart(NUMBER)),
  ].join('');
  const lines = cells.map(({ row, name, network }) =>
    [
      `${String(row.ttl).padStart(3)} `,
      shorten(name, nameWidth).padEnd(nameWidth),
      networkWidth === 0 ? '' : ` ${network.padEnd(networkWidth - 1)}`,
      lossOf(row).padStart(NUMBER),
      ...numbersOf(row).map((text) => text.padStart(NUMBER)),
      ` ${sparkline(row.history, sparkWidth)}`,
    ].join(''),
  );
  return [title(view), head, ...lines, ...remarks(view), ...endToEndLine(view), view.state]
    .filter((line) => line !== '')
    .map((line) => clip(line.trimEnd(), columns));
}

/** The latest values that fit, each as high as it is against the highest. */
export function sparkline(history: readonly number[], width: number): string {
  const shown = width <= 0 ? [] : history.slice(-width);
  const highest = Math.max(...shown, Number.MIN_VALUE);
  return shown
    .map((rtt) => (rtt <= 0 ? LOST : BARS[Math.min(BARS.length - 1, Math.floor((rtt / highest) * BARS.length))]!))
    .join('');
}

/** What an answer says beside its time: ICMP refusals, NAT, MPLS labels. */
export function describeReply(reply: HopReply): string[] {
  const { icmp, kind, nat, extensions } = reply;
  const said: string[] = [];
  if (kind === 'unreachable' && icmp !== undefined && !reply.isDestination) {
    said.push(`unreachable (ICMP type ${icmp.type}, code ${icmp.code})`);
  }
  if (nat) said.push('a NAT before this hop rewrote the probe');
  if (extensions !== undefined && extensions.mpls.length > 0) {
    said.push(`MPLS ${extensions.mpls.map((one) => `${one.label} (TTL ${one.ttl})`).join(', ')}`);
  }
  for (const one of extensions?.interfaces ?? []) {
    const what = [one.name, one.address?.toString(), one.mtu === undefined ? undefined : `MTU ${one.mtu}`];
    said.push(`${one.role} interface ${what.filter((text) => text !== undefined).join(' ')}`);
  }
  return said;
}

function title({ hostname, destination, protocol }: TableView): string {
  if (destination === undefined) return `trace to ${printable(hostname)}`;
  const { address, port } = destination;
  const where = hostname === address.toString() ? hostname : `${printable(hostname)} (${address})`;
  return `trace to ${where}, ${protocol}${protocol === 'icmp' ? '' : ` port ${port}`}`;
}

function nameOf({ addresses }: PathRow, view: TableView): string {
  const first = addresses[0];
  if (first === undefined) return '*';
  if (view.hidden(first)) return '(private)';
  const name = view.names.get(first.toString())?.[0];
  const more = addresses.length > 1 ? ` +${addresses.length - 1}` : '';
  return `${name === undefined ? first.toString() : printable(name)}${more}`;
}

function networkOf({ addresses }: PathRow, view: TableView): string {
  const network = addresses[0] === undefined ? undefined : view.networks.get(addresses[0].toString());
  if (network?.asn === undefined) return '';
  return `AS${network.asn}${view.location && network.country !== undefined ? ` ${network.country}` : ''}`;
}

function lossOf(row: PathRow): string {
  if (row.sent === 0) return '';
  return `${row.rateLimited ? '~' : ''}${percent(row.loss)}`;
}

function numbersOf(row: PathRow): string[] {
  if (row.received === 0) return ['', '', '', '', ''];
  return [row.last, row.avg, row.best, row.worst, row.jitter].map(milliseconds);
}

function remarks({ rows }: TableView): string[] {
  const lines = rows.flatMap((row) => {
    const said = row.reply === undefined ? [] : describeReply(row.reply);
    if (row.mtu !== undefined) said.push(`packets of ${row.mtu} bytes reach it`);
    return said.length === 0 ? [] : [`hop ${row.ttl}: ${printable(said.join('; '))}`];
  });
  if (rows.some((row) => row.rateLimited)) lines.push('~ the router limits its answers: no packets are lost there');
  return lines;
}

function endToEndLine({ endToEnd, endToEndMethod, protocol }: TableView): string[] {
  if (endToEnd.length === 0) return [];
  const { sent, loss, min, avg, max, jitter, received } = endToEndStatistics(endToEnd);
  const times =
    received === 0
      ? ''
      : `, best ${milliseconds(min)}, avg ${milliseconds(avg)}, worst ${milliseconds(max)}, jitter ${milliseconds(jitter)} ms`;
  const lines = [`end to end: ${sent} sent, ${percent(loss)} lost${times}`];
  if (endToEndMethod !== protocol) lines.push(`(by ${endToEndMethod}: hosts limit how often they answer ${protocol})`);
  return lines;
}

function clip(line: string, columns: number): string {
  return line.length <= columns ? line : `${line.slice(0, Math.max(0, columns - 1))}…`;
}
