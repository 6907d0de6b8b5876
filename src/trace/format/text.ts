/** Text from the network made fit for terminals and files: names from PTR records may hold anything. */

/** Control characters (escape sequences with them), separators and direction marks. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

export function printable(text: string): string {
  return text.replace(UNPRINTABLE, '?');
}

/** At most `width` characters: both ends stay, an ellipsis stands for the middle. */
export function shorten(text: string, width: number): string {
  if (text.length <= width) return text;
  if (width <= 1) return text.slice(0, Math.max(0, width));
  const tail = Math.floor((width - 1) / 2);
  return `${text.slice(0, width - 1 - tail)}…${text.slice(text.length - tail)}`;
}

/** Milliseconds in at most six characters. */
export function milliseconds(value: number): string {
  return value.toFixed(value < 99.995 ? 2 : value < 999.95 ? 1 : 0);
}

/** A fraction of 1 as a percentage in at most five characters. */
export function percent(fraction: number): string {
  const value = fraction * 100;
  return `${value > 0 && value < 9.95 ? value.toFixed(1) : value.toFixed(0)}%`;
}
