/** Addresses of proxies as users write them. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { SallyportError } from '../../src/base/error.js';
import { parseProxyUrl } from '../../src/tun2socks/proxy-url.js';

test.each([
  ['socks5://10.0.0.1', ['socks5', '10.0.0.1', 1080, undefined, undefined]],
  ['socks5h://proxy.example:9050/', ['socks5h', 'proxy.example', 9050, undefined, undefined]],
  ['http://[fd00::1]:3128', ['http', 'fd00::1', 3128, undefined, undefined]],
  ['http://alice:p%40ss%3A@proxy', ['http', 'proxy', 8080, 'alice', 'p@ss:']],
])('%s', (text, expected) => {
  const { kind, host, port, user, password } = parseProxyUrl(text);
  expect([kind, host, port, user, password]).toEqual(expected);
});

test.each([
  'socks4://x',
  'socks5://',
  'socks5://x:0',
  'socks5://x:65536',
  'socks5://:secret@x',
  'socks5://alice@x',
  'socks5://a:%zz@x',
  `socks5://${'a'.repeat(256)}:b@x`,
  'http://x/path',
  'x',
])('%s is refused, without the password in the message', (text) => {
  expect(() => parseProxyUrl(text)).toThrow(expect.objectContaining({ code: 'PROXY_URL' }));
  expect(() => parseProxyUrl(text)).not.toThrow('secret');
});

test('any text is taken or refused with that code', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((rest) => `socks5://${rest}`),
      ),
      (text) => {
        try {
          const { host, port } = parseProxyUrl(text);
          expect(host.length > 0 && port > 0 && port < 65_536).toBe(true);
        } catch (error) {
          expect((error as SallyportError).code).toBe('PROXY_URL');
        }
      },
    ),
  );
});
