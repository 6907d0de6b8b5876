/** Types of content.mjs, which runs as it is. */
export function content(seed: number, total: number): Generator<Buffer, void, undefined>;
export function contentHash(seed: number, total: number): string;
export function parseArguments(argv: readonly string[]): { named: Record<string, string>; plain: string[] };
