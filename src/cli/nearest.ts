/** The known word that a mistyped one most likely stands for. */

/** Most edits between a word and what it is taken for. */
const MOST_EDITS = 3;

/** The known word with the fewest edits from `word`, upper and lower case alike; undefined when none is near. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const most = Math.min(MOST_EDITS, Math.floor(word.length / 2));
  let best: string | undefined;
  let fewest = most + 1;
  for (const one of known) {
    const edits = distance(word.toLowerCase(), one.toLowerCase());
    if (edits < fewest) {
      fewest = edits;
      best = one;
    }
  }
  return best;
}

/** Levenshtein: insertions, deletions and replacements. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
