/** Hops as lines for programs and documents: CSV (RFC 4180) and Markdown. */
import { isPrivate } from '../compatible.js';
import type { TraceResult } from '../result.js';
import { toNanosecond } from '../statistics.js';
import { type PathRow, PathTable } from './path-table.js';
import { milliseconds, percent, printable } from './text.js';

const CSV_COLUMNS =
  'ttl,address,name,asn,as_name,country,sent,received,loss,last_ms,avg_ms,best_ms,worst_ms,jitter_ms,rate_limited,destination';

/** The rows of all runs together. */
export function rowsOf(result: TraceResult): PathRow[] {
  const table = new PathTable();
  result.runs.forEach(({ run }, index) => {
    table.finish(index, run);
  });
  return table.rows();
}

/** @param skipPrivate leave private addresses out. */
export function toCsv(result: TraceResult, skipPrivate: boolean): string {
  const lines = rowsOf(result).map((row) => {
    const { address, name, network } = who(row, result, skipPrivate);
    const times = [row.last, row.avg, row.best, row.worst, row.jitter].map((value) =>
      row.received === 0 ? '' : String(toNanosecond(value)),
    );
    return [
      String(row.ttl),
      address,
      name,
      String(network?.asn ?? ''),
      network?.name ?? '',
      network?.country ?? '',
      String(row.sent),
      String(row.received),
      String(row.loss),
      ...times,
      String(row.rateLimited),
      String(row.isDestination),
    ]
      .map(csvCell)
      .join(',');
  });
  return [CSV_COLUMNS, ...lines].join('\n');
}

export function toMarkdown(result: TraceResult, skipPrivate: boolean): string {
  const head = ['Hop', 'Address', 'Name', 'AS', 'Loss', 'Last', 'Avg', 'Best', 'Worst', 'Jitter'];
  const lines = rowsOf(result).map((row) => {
    const { address, name, network } = who(row, result, skipPrivate);
    const times = [row.last, row.avg, row.best, row.worst, row.jitter].map((value) =>
      row.received === 0 ? '' : milliseconds(value),
    );
    const system = network?.asn === undefined ? '' : `AS${network.asn} ${network.name ?? ''}`.trim();
    return [String(row.ttl), address || '*', name, system, percent(row.loss), ...times].map(markdownCell);
  });
  const align = head.map((_, i) => (i >= 1 && i <= 3 ? '---' : '--:'));
  return [head, align, ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function who(
  row: PathRow,
  result: TraceResult,
  skipPrivate: boolean,
): { readonly address: string; readonly name: string; readonly network: ReturnType<TraceResult['networks']['get']> } {
  const ip = row.addresses[0];
  if (ip === undefined || (skipPrivate && isPrivate(ip))) return { address: '', name: '', network: undefined };
  const address = ip.toString();
  return { address, name: result.names.get(address)?.[0] ?? '', network: result.networks.get(address) };
}

/** Quoted where it must be; a name that a spreadsheet would take for a formula is made text. */
function csvCell(text: string): string {
  const safe = printable(text).replace(/^(?=[=+\-@])(?![+-]?[\d.]+(?:e[+-]?\d+)?$)/, "'");
  return /[",]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function markdownCell(text: string): string {
  return printable(text).replace(/[\\|<&`*_[\]]/g, (char) => (text === '*' ? char : `\\${char}`));
}
