/** The paths of a result in Graphviz' language: `dot -Tsvg` draws them. */
import type { TraceResult } from '../result.js';
import { pathGraph } from './graph.js';
import { milliseconds, printable } from './text.js';

export function toDot(result: TraceResult, skipPrivate: boolean): string {
  const nodes = pathGraph(result, skipPrivate);
  const lines = [`digraph trace {`, `  label=${quoted([`trace to ${result.hostname}`])};`, '  node [shape=box];'];
  nodes.forEach((node, i) => {
    const rtt = node.rtt === undefined ? '' : `${milliseconds(node.rtt)} ms`;
    const label = [`${node.ttl}: ${node.address || '*'}`, node.name, node.network, rtt].filter((part) => part !== '');
    const style = node.isDestination ? ', peripheries=2' : node.address === '' ? ', style=dashed' : '';
    lines.push(`  n${i} [label=${quoted(label)}${style}];`);
  });
  nodes.forEach((node, i) => {
    for (const next of node.next) lines.push(`  n${i} -> n${next};`);
  });
  return [...lines, '}'].join('\n');
}

/** Lines in one double-quoted string. */
function quoted(lines: readonly string[]): string {
  return `"${lines.map((line) => printable(line).replace(/["\\]/g, '\\$&')).join('\\n')}"`;
}
