/**
 * Names of hosts, looked up by the system's resolver, which the tunnel never changes: the relay must be found when the tunnel is
 * broken.
 */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { describeError } from '../base/error.js';
import type { Log } from '../base/log.js';

/** `HOST:PORT` or `[v6]:PORT` in its parts. */
function splitHostPort(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text)!;
  return { host: match[1] ?? match[2]!, port: Number(match[3]) };
}

/** What looking a name up gave: addresses as ADDRESS:PORT texts, or why there are none. */
export type Resolved =
  | { readonly addresses: readonly string[]; readonly problem: undefined }
  | { readonly addresses: readonly []; readonly problem: string };

/** The addresses of a host. */
export async function resolveHost(hostPort: string): Promise<Resolved> {
  const { host, port } = splitHostPort(hostPort);
  const form = (address: string): string => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);
  if (isIP(host) !== 0) return { addresses: [form(host)], problem: undefined };
  try {
    const found = await lookup(host, { all: true, verbatim: true });
    return { addresses: found.map(({ address }) => form(address)), problem: undefined };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? describeError(error);
    return { addresses: [], problem: `the name ${host} cannot be resolved (${code})` };
  }
}

/**
 * Keeps a packet thread's list of relay addresses. One lookup at a time, however slow the resolver; a name that cannot be
 * resolved now leaves the addresses that were known.
 */
export class RelayName {
  readonly #contact: string;
  readonly #log: Log;
  readonly #tell: (resolved: Resolved) => Promise<unknown>;
  #isLooking = false;
  #problem: string | undefined;

  constructor(contact: string, log: Log, tell: (resolved: Resolved) => Promise<unknown>) {
    this.#contact = contact;
    this.#log = log;
    this.#tell = tell;
  }

  /** Looks the name up anew, unless a lookup is under way. */
  refresh(): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    // The thread may have ended when the answer comes.
    this.#look().then(
      () => {
        this.#isLooking = false;
      },
      () => {
        this.#isLooking = false;
      },
    );
  }

  async #look(): Promise<void> {
    const resolved = await resolveHost(this.#contact);
    if (resolved.problem !== undefined && resolved.problem !== this.#problem) {
      this.#log.warn({ relay: this.#contact }, `the relay is not found: ${resolved.problem}`);
    }
    this.#problem = resolved.problem;
    await this.#tell(resolved);
  }
}
