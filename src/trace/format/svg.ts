/**
 * The paths of a result as a picture (SVG 1.1): one line of boxes for each TTL from top to bottom, and the ways between them.
 */
import type { TraceResult } from '../result.js';
import { type PathNode, pathGraph } from './graph.js';
import { milliseconds, printable, shorten } from './text.js';

/** Pixels. */
const BOX = { width: 210, height: 46 };
const GAP = { x: 24, y: 34 };
const MARGIN = { left: 56, top: 52, right: 24, bottom: 24 };
/** Characters that fit a box in its two type sizes. */
const ADDRESS_CHARS = 27;
const NAME_CHARS = 34;
const FONT = 'font-family="ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace"';

export function toSvg(result: TraceResult, skipPrivate: boolean): string {
  const nodes = pathGraph(result, skipPrivate);
  const ttls = [...new Set(nodes.map((node) => node.ttl))].sort((a, b) => a - b);
  const levels = ttls.map((ttl) => nodes.flatMap((node, i) => (node.ttl === ttl ? [i] : [])));
  const widest = Math.max(1, ...levels.map((level) => level.length));
  const inner = widest * BOX.width + (widest - 1) * GAP.x;
  const width = MARGIN.left + inner + MARGIN.right;
  const height = MARGIN.top + levels.length * (BOX.height + GAP.y) - (levels.length > 0 ? GAP.y : 0) + MARGIN.bottom;
  const corners = new Map<number, { readonly x: number; readonly y: number }>();
  levels.forEach((level, row) => {
    const span = level.length * BOX.width + (level.length - 1) * GAP.x;
    level.forEach((node, column) => {
      const x = MARGIN.left + (inner - span) / 2 + column * (BOX.width + GAP.x);
      corners.set(node, { x, y: MARGIN.top + row * (BOX.height + GAP.y) });
    });
  });
  const ways = nodes.flatMap((node, i) => node.next.map((next) => way(corners.get(i)!, corners.get(next)!)));
  const numbers = ttls.map(
    (ttl, row) =>
      `<text x="${MARGIN.left - 18}" y="${MARGIN.top + row * (BOX.height + GAP.y) + BOX.height / 2 + 4}" text-anchor="end" font-size="12" fill="#667">${ttl}</text>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ${FONT}>`,
    `<rect width="100%" height="100%" fill="#ffffff"/>`,
    `<text x="16" y="28" font-size="15" fill="#112">${escaped(shorten(heading(result), Math.floor((width - 32) / 9.1)))}</text>`,
    ...ways,
    ...numbers,
    ...nodes.map((node, i) => box(node, corners.get(i)!)),
    '</svg>',
  ].join('\n');
}

function heading(result: TraceResult): string {
  const paths = result.runs.some(({ run }) => run.multipath !== undefined) ? 'all paths' : 'trace';
  return `${paths} to ${printable(result.hostname)} (${result.protocol})`;
}

type Corner = { readonly x: number; readonly y: number };

function way(from: Corner, to: Corner): string {
  const x1 = from.x + BOX.width / 2;
  const y1 = from.y + BOX.height;
  const x2 = to.x + BOX.width / 2;
  const bend = Math.max(12, (to.y - y1) / 2);
  const path = `M${x1} ${y1} C${x1} ${y1 + bend} ${x2} ${to.y - bend} ${x2} ${to.y}`;
  return `<path d="${path}" fill="none" stroke="#8899bb" stroke-width="1.5"/>`;
}

function box(node: PathNode, { x, y }: Corner): string {
  const silent = node.address === '';
  const fill = node.isDestination ? '#e3f4e7' : silent ? '#f7f7f7' : '#eef3fb';
  const stroke = node.isDestination ? '#3a9a58' : silent ? '#bbbbbb' : '#5b7db8';
  const dash = silent ? ' stroke-dasharray="4 3"' : '';
  const parts = [node.network, node.rtt === undefined ? '' : `${milliseconds(node.rtt)} ms`].filter(
    (one) => one !== '',
  );
  const facts = parts.join(' · ');
  // The name takes what the facts leave of the line; the full one shows where a pointer rests.
  const name = shorten(printable(node.name), NAME_CHARS - (facts === '' ? 0 : facts.length + 3));
  const second = [name, facts].filter((one) => one !== '').join(' · ');
  return [
    `<g><title>${escaped(printable([node.address, node.name, facts].filter((one) => one !== '').join(' ')) || 'no answer')}</title>`,
    `<rect x="${x}" y="${y}" width="${BOX.width}" height="${BOX.height}" rx="6" fill="${fill}" stroke="${stroke}"${dash}/>`,
    `<text x="${x + BOX.width / 2}" y="${y + 19}" text-anchor="middle" font-size="12" fill="#112">${escaped(shorten(node.address || '*', ADDRESS_CHARS))}</text>`,
    `<text x="${x + BOX.width / 2}" y="${y + 36}" text-anchor="middle" font-size="9.5" fill="#556">${escaped(second)}</text></g>`,
  ].join('');
}

/** XML 1.0 §2.4. */
function escaped(text: string): string {
  return text.replace(/[<>&"]/g, (char) => ({ '<': '&lt;', '>': '&gt;', '&': '&amp;', '"': '&quot;' })[char]!);
}
