/** The address of a proxy as users write it: `socks5://[user:password@]host[:port]`, `socks5h://…` (it looks names up), `http://…`. */
import { SallyportError } from '../base/error.js';

export interface ProxyUrl {
  readonly kind: 'socks5' | 'socks5h' | 'http';
  /** A name or an address, without brackets. */
  readonly host: string;
  readonly port: number;
  readonly user: string | undefined;
  readonly password: string | undefined;
}

/** RFC 1928 §3; and what HTTP proxies listen on by default (IANA: http-alt). */
const PORTS = { socks5: 1080, socks5h: 1080, http: 8080 } as const;
/** RFC 1929 §2. */
const MAX_CREDENTIAL = 255;

/** @throws SallyportError PROXY_URL (caller); it never repeats the password. */
export function parseProxyUrl(text: string): ProxyUrl {
  const match = /^(socks5h?|http):\/\/(?:([^:@/]*):([^@/]*)@)?(\[[^\]]+\]|[^:@/[\]]+)(?::(\d{1,5}))?\/?$/.exec(text);
  if (match === null) throw invalid();
  const kind = match[1] as ProxyUrl['kind'];
  const port = match[5] === undefined ? PORTS[kind] : Number(match[5]);
  const user = decode(match[2]);
  const password = decode(match[3]);
  if (port < 1 || port > 65_535 || user === '') throw invalid();
  for (const one of [user, password]) {
    if (one !== undefined && new TextEncoder().encode(one).length > MAX_CREDENTIAL) throw invalid();
  }
  return { kind, host: match[4]!.replace(/^\[|\]$/g, ''), port, user, password };
}

function decode(text: string | undefined): string | undefined {
  try {
    return text === undefined ? undefined : decodeURIComponent(text);
  } catch {
    throw invalid();
  }
}

const invalid = (): SallyportError =>
  new SallyportError(
    'caller',
    'PROXY_URL',
    'the proxy is not socks5://[USER:PASSWORD@]HOST[:PORT], socks5h://… or http://…',
  );
