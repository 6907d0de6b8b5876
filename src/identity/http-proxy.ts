/**
 * The way out that the environment names: HTTPS_PROXY, ALL_PROXY and NO_PROXY, as other programs read them (upper or lower case).
 *
 *   CONNECT host:port HTTP/1.1 ─► 2xx: the connection is a tunnel (RFC 9110 §9.3.6)
 */
import { request } from 'node:http';
import { request as secureRequest } from 'node:https';
import type { Socket } from 'node:net';
import { SallyportError } from '../base/error.js';
import { Seconds, toMillis } from '../base/time.js';

const TIMEOUT = Seconds(10);

export type Environment = Readonly<Record<string, string | undefined>>;

/** The proxy for an https URL; undefined: none. @throws SallyportError PROXY_INVALID (environment). */
export function proxyFor(url: URL, environment: Environment): URL | undefined {
  const setting = (name: string): string => environment[name.toLowerCase()] ?? environment[name] ?? '';
  const text = setting('HTTPS_PROXY') || setting('ALL_PROXY');
  if (text === '' || isExcepted(url, setting('NO_PROXY'))) return undefined;
  let proxy: URL | undefined;
  try {
    proxy = new URL(text.includes('://') ? text : `http://${text}`);
  } catch {
    // Said below; the text may hold a password.
  }
  if (proxy === undefined || (proxy.protocol !== 'http:' && proxy.protocol !== 'https:')) {
    throw new SallyportError('environment', 'PROXY_INVALID', 'HTTPS_PROXY names no HTTP proxy', {
      hint: 'it is a URL such as http://proxy.example:3128',
    });
  }
  return proxy;
}

/** A connection to the host of `url` through `proxy`. @throws SallyportError PROXY_REFUSED (peer), the socket's errors. */
export function connectThrough(proxy: URL, url: URL): Promise<Socket> {
  const target = `${url.hostname}:${url.port || '443'}`;
  const credentials = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const headers: Record<string, string> = { host: target };
  if (proxy.username !== '') headers['proxy-authorization'] = `Basic ${Buffer.from(credentials).toString('base64')}`;
  return new Promise((resolve, reject) => {
    const ask = proxy.protocol === 'https:' ? secureRequest : request;
    const asked = ask({
      host: proxy.hostname.replace(/^\[|\]$/g, ''),
      port: proxy.port || (proxy.protocol === 'https:' ? 443 : 80),
      method: 'CONNECT',
      path: target,
      headers,
      agent: false,
      timeout: toMillis(TIMEOUT),
    });
    asked.on('timeout', () => asked.destroy(new Error(`the proxy ${proxy.host} does not answer`)));
    asked.on('error', reject);
    asked.on('connect', (answer, socket, head) => {
      const status = answer.statusCode ?? 0;
      if (status >= 200 && status < 300 && head.length === 0) {
        socket.setTimeout(0);
        resolve(socket);
        return;
      }
      socket.destroy();
      reject(new SallyportError('peer', 'PROXY_REFUSED', `the proxy ${proxy.host} answers ${status}`));
    });
    asked.end();
  });
}

/** NO_PROXY: host names and their suffixes, addresses, `*`; a port after a colon narrows an entry. */
function isExcepted(url: URL, list: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  return list
    .split(',')
    .map((entry) => entry.trim().toLowerCase())
    .filter((entry) => entry !== '')
    .some((entry) => {
      if (entry === '*') return true;
      // One colon separates a port, several are an IPv6 address.
      const [, name = entry, port] = /^\[?([^:]*|[^\]]+(?=\]))\]?:(\d+)$/.exec(entry) ?? [];
      if (port !== undefined && port !== (url.port || '443')) return false;
      const suffix = name.replace(/^\*?\.|^\[|\]$/g, '');
      return host === suffix || host.endsWith(`.${suffix}`);
    });
}
