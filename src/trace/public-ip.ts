/**
 * The address the Internet sees of this machine, asked of public web services in a fixed order, over IPv4.
 *
 *   service ──connection error──► the same again, after a back-off, while its budget lasts
 *      ├── 4xx, or a body that is no address ──► the next service
 *      └── an address ──► kept for two hours
 */
import { IpAddress } from '../base/address.js';
import type { Entropy } from '../base/entropy.js';
import { type Clock, elapsed, Hours, Seconds, toMillis } from '../base/time.js';
import { ExpiringCache } from './cache.js';

const SERVICES = [
  'https://icanhazip.com/',
  'https://ipinfo.io/ip',
  'https://checkip.amazonaws.com/',
  'https://api.ipify.org/',
  'https://whatismyip.akamai.com/',
] as const;

/** For one service, its retries included. */
const BUDGET = Seconds(2);
const LIFETIME = Hours(2);
const FIRST_BACKOFF_MS = 500;
const BACKOFF_FACTOR = 1.5;
const BACKOFF_LIMIT_MS = 3_000;
/** Drawn evenly from this far below and above. */
const BACKOFF_JITTER = 0.5;
/** An address has at most 45 characters; anything much longer is a page. */
const MAX_BODY = 1024;

export interface Fetched {
  readonly status: number;
  readonly body: string;
}

/** Rejects when no answer came; `signal` ends it. */
export type Fetch = (url: string, signal: AbortSignal) => Promise<Fetched>;

export class PublicIp {
  readonly #fetch: Fetch;
  readonly #clock: Clock;
  readonly #entropy: Entropy;
  readonly #cache: ExpiringCache<'ip', string>;

  constructor(fetch: Fetch, clock: Clock, entropy: Entropy) {
    this.#fetch = fetch;
    this.#clock = clock;
    this.#entropy = entropy;
    this.#cache = new ExpiringCache(LIFETIME, 1, clock);
  }

  /** Empty when nobody tells; never rejects. */
  async find(signal: AbortSignal): Promise<string> {
    const known = this.#cache.get('ip');
    if (known !== undefined) return known;
    for (const url of SERVICES) {
      if (signal.aborted) return '';
      const found = await this.#ask(url, signal);
      if (found === undefined) continue;
      this.#cache.set('ip', found);
      return found;
    }
    return '';
  }

  async #ask(url: string, signal: AbortSignal): Promise<string | undefined> {
    const started = this.#clock.now();
    const limited = AbortSignal.any([signal, AbortSignal.timeout(toMillis(BUDGET))]);
    for (let backoff = FIRST_BACKOFF_MS; ; backoff = Math.min(backoff * BACKOFF_FACTOR, BACKOFF_LIMIT_MS)) {
      try {
        return addressIn(await this.#fetch(url, limited));
      } catch {
        const unit = this.#entropy.uint32() / 0x1_0000_0000;
        const wait = backoff * (1 - BACKOFF_JITTER + 2 * BACKOFF_JITTER * unit);
        const left = toMillis(BUDGET) - toMillis(elapsed(started, this.#clock.now()));
        if (limited.aborted || wait >= left) return undefined;
        await pause(wait, limited);
      }
    }
  }
}

/** The address that is the whole body; undefined of a client error's. */
function addressIn({ status, body }: Fetched): string | undefined {
  if (status >= 400 && status < 500) return undefined;
  return IpAddress.parse(body.trim())?.toString();
}

/** Resolves early when aborted. */
function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener('abort', done, { once: true });
  });
}

/** HTTPS over IPv4; loaded when it is asked for, which most traces never do. */
export const fetchOverIpv4: Fetch = async (url, signal) => {
  const { request } = await import('node:https');
  return await new Promise((resolve, reject) => {
    const sent = request(url, { family: 4, signal, headers: { accept: 'text/plain' } }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        body += chunk;
        if (body.length > MAX_BODY) response.destroy(new Error('the answer is too long'));
      });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    });
    sent.on('error', reject);
    sent.end();
  });
};
