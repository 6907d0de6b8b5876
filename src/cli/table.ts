/** Tables for people: columns as wide as their widest cell, two spaces apart, cut at the terminal's width. */

/** @param width columns of the terminal; longer lines end in an ellipsis. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], width = 80): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  return all
    .map((row) =>
      row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column]!))).join('  '),
    )
    .map((line) => (line.length > width ? `${line.slice(0, width - 1)}…` : line).trimEnd())
    .join('\n');
}
