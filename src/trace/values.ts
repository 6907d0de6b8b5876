/** Numbers and booleans as Go programs read them from flags and query parameters. */

/** The words strconv.ParseBool takes. */
const BOOLEANS: Readonly<Record<string, boolean>> = {
  1: true,
  t: true,
  T: true,
  TRUE: true,
  true: true,
  True: true,
  0: false,
  f: false,
  F: false,
  FALSE: false,
  false: false,
  False: false,
};

/** Undefined when the text is no boolean. */
export function parseBoolean(text: string): boolean | undefined {
  return Object.hasOwn(BOOLEANS, text) ? BOOLEANS[text] : undefined;
}

/** A decimal whole number as strconv.Atoi takes it, of at most 15 digits (more may not fit a double); undefined otherwise. */
export function parseInteger(text: string): number | undefined {
  return /^[+-]?\d{1,15}$/.test(text) ? Number(text) : undefined;
}
