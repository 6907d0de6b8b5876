/**
 * The host's resolver configuration, changed and put back: /etc/resolv.conf, whose content is kept in the state folder before
 * it is touched, so that the next start can put it back after a crash.
 *
 *   use(addresses):  state/resolv.conf ◄─copy── /etc/resolv.conf ◄── ours       undo: copied back, if ours is still there
 *
 * A link (systemd-resolved, NetworkManager) is kept as a link and put back as one.
 */
import {
  existsSync,
  lstatSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { IpAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';

const PATH = '/etc/resolv.conf';
const MARK = '# written by sallyport; the former content comes back when it stops';

type Saved = { readonly link: string } | { readonly content: string | undefined };

export class ResolverFile {
  readonly #saved: string;
  readonly #path: string;

  /** @param saved file in the state folder. Undoes first what an earlier run left behind. */
  constructor(saved: string, path = PATH) {
    this.#saved = saved;
    this.#path = path;
    this.undo();
  }

  /** The name servers that programs use now, in order; without zones, which a socket elsewhere cannot use. */
  nameServers(): string[] {
    let content: string;
    try {
      content = readFileSync(this.#path, 'utf8');
    } catch {
      return [];
    }
    const found = content.split('\n').map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1]);
    return found.filter((text) => text !== undefined).filter((text) => IpAddress.parse(text) !== undefined);
  }

  /** @throws SallyportError DNS_NOT_SET (environment). */
  use(addresses: readonly string[]): void {
    try {
      const content = `${[MARK, ...addresses.map((address) => `nameserver ${address}`)].join('\n')}\n`;
      writeFileSync(this.#saved, JSON.stringify(read(this.#path)), { mode: 0o600 });
      this.#replace(() => writeFileSync(`${this.#path}.sallyport`, content, { mode: 0o644 }));
    } catch (cause) {
      throw new SallyportError('environment', 'DNS_NOT_SET', `${this.#path} cannot be written`, { cause });
    }
  }

  /** Puts back what was there, unless somebody else has written since; may be called any number of times. */
  undo(): void {
    if (!existsSync(this.#saved)) return;
    const saved = parse(readFileSync(this.#saved, 'utf8'));
    if (saved !== undefined && isOurs(this.#path)) {
      if ('link' in saved) this.#replace(() => symlinkSync(saved.link, `${this.#path}.sallyport`));
      else if (saved.content === undefined) rmSync(this.#path, { force: true });
      else this.#replace(() => writeFileSync(`${this.#path}.sallyport`, saved.content!, { mode: 0o644 }));
    }
    rmSync(this.#saved, { force: true });
  }

  /** In one step, so that nobody reads half a file; where the file is a mount of its own, in place. */
  #replace(write: () => void): void {
    const next = `${this.#path}.sallyport`;
    rmSync(next, { force: true });
    write();
    try {
      renameSync(next, this.#path);
    } catch (error) {
      if (lstatSync(next).isSymbolicLink()) throw error;
      writeFileSync(this.#path, readFileSync(next));
      rmSync(next, { force: true });
    }
  }
}

function read(path: string): Saved {
  try {
    if (lstatSync(path).isSymbolicLink()) return { link: readlinkSync(path) };
    return { content: readFileSync(path, 'utf8') };
  } catch {
    return { content: undefined };
  }
}

function isOurs(path: string): boolean {
  const now = read(path);
  return 'content' in now && now.content !== undefined && now.content.startsWith(MARK);
}

function parse(text: string): Saved | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const { link, content } = value as Record<string, unknown>;
    if (typeof link === 'string') return { link };
    return typeof content === 'string' || content === undefined ? { content } : undefined;
  } catch {
    return undefined;
  }
}
