/** Programs of the host that configure its network: `ip` (iproute2) and `nft` (nftables), run to their end. */
import { execFileSync } from 'node:child_process';
import { SallyportError } from '../../base/error.js';

/** A call that takes longer than this hangs; milliseconds. */
const CALL_TIMEOUT = 10_000;

/** Code of the error when the program is missing, and the package that has it. */
const PROGRAMS = {
  ip: ['IPROUTE2_MISSING', 'iproute2'],
  nft: ['NFTABLES_MISSING', 'nftables'],
} as const;

/** Answers of the kernel as the programs print them: strerror in the C locale, or the kernel's own words (extended acknowledgement). */
const ANSWERS: readonly (readonly [RegExp, string, string?])[] = [
  [/operation not permitted/i, 'NETWORK_NOT_PERMITTED', 'run as root or with CAP_NET_ADMIN'],
  [/file exists|already assigned/i, 'NETWORK_EXISTS'],
  [
    /no such process|cannot find device|cannot assign requested address|address not found|no such file or directory/i,
    'NETWORK_GONE',
  ],
  [/network is unreachable|no route to host/i, 'NETWORK_UNREACHABLE'],
];

/**
 * Returns what the program prints.
 * @param input for its standard input
 * @throws SallyportError (environment) IPROUTE2_MISSING, NFTABLES_MISSING, NETWORK_NOT_PERMITTED, NETWORK_EXISTS, NETWORK_GONE,
 * NETWORK_UNREACHABLE, NETWORK_FAILED.
 */
export function call(program: keyof typeof PROGRAMS, args: readonly string[], input = ''): string {
  try {
    return execFileSync(program, args, {
      encoding: 'utf8',
      input,
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: CALL_TIMEOUT,
      env: { ...process.env, LC_ALL: 'C' },
    });
  } catch (error) {
    throw callError(program, args, error);
  }
}

function callError(program: keyof typeof PROGRAMS, args: readonly string[], error: unknown): SallyportError {
  const { code, stderr } = Object(error) as { readonly code?: unknown; readonly stderr?: unknown };
  if (code === 'ENOENT') {
    const [missing, name] = PROGRAMS[program];
    return new SallyportError('environment', missing, `the program "${program}" was not found`, {
      cause: error,
      hint: `install ${name}`,
    });
  }
  const text = String(stderr ?? '').trim();
  const known = ANSWERS.find(([pattern]) => pattern.test(text));
  const command = `${program} ${args.join(' ')}`;
  return new SallyportError('environment', known?.[1] ?? 'NETWORK_FAILED', `${command}: ${text || code}`, {
    cause: error,
    ...(known?.[2] === undefined ? {} : { hint: known[2] }),
  });
}
