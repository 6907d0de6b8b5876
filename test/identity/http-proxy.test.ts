import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { connectThrough, proxyFor } from '../../src/identity/http-proxy.js';

const url = (text: string): URL => new URL(text);

describe('the proxy of the environment', () => {
  it.each([
    [{}, undefined],
    [{ HTTPS_PROXY: 'http://p:1' }, 'http://p:1/'],
    [{ https_proxy: 'p:1' }, 'http://p:1/'],
    [{ ALL_PROXY: 'https://p:1' }, 'https://p:1/'],
    [{ HTTPS_PROXY: 'http://p:1', NO_PROXY: 'other, relay.example' }, undefined],
    [{ HTTPS_PROXY: 'http://p:1', NO_PROXY: '.example' }, undefined],
    [{ HTTPS_PROXY: 'http://p:1', NO_PROXY: '*.example:8443' }, undefined],
    [{ HTTPS_PROXY: 'http://p:1', NO_PROXY: 'relay.example:443' }, 'http://p:1/'],
    [{ HTTPS_PROXY: 'http://p:1', NO_PROXY: 'lay.example' }, 'http://p:1/'],
    [{ HTTPS_PROXY: 'http://p:1', no_proxy: '*' }, undefined],
  ])('%j', (environment, wanted) => {
    expect(proxyFor(url('https://relay.example:8443'), environment)?.href).toBe(wanted);
  });

  it('that is no HTTP proxy is said, without its password', () => {
    const ask = () => proxyFor(url('https://relay.example'), { HTTPS_PROXY: 'socks5://u:secret@p:1' });
    expect(ask).toThrow('HTTPS_PROXY names no HTTP proxy');
    expect(ask).not.toThrow('secret');
  });

  it('excepts IPv6 addresses', () => {
    const environment = { HTTPS_PROXY: 'http://p:1', NO_PROXY: '2001:db8::1' };
    expect(proxyFor(url('https://[2001:db8::1]:8443'), environment)).toBeUndefined();
    expect(proxyFor(url('https://[2001:db8::2]:8443'), environment)).toBeDefined();
    const withPort = { HTTPS_PROXY: 'http://p:1', NO_PROXY: '[2001:db8::1]:8443' };
    expect(proxyFor(url('https://[2001:db8::1]:8443'), withPort)).toBeUndefined();
    expect(proxyFor(url('https://[2001:db8::1]:443'), withPort)).toBeDefined();
  });
});

describe('a connection through a proxy', () => {
  let server: Server | undefined;
  afterEach(() => server?.close());

  const proxyThat = async (answer: string, heard: string[] = []): Promise<URL> => {
    const made = createServer();
    server = made;
    made.on('connect', (request, socket) => {
      heard.push(`${request.url} ${request.headers['proxy-authorization'] ?? ''}`);
      socket.end(answer);
    });
    await new Promise<void>((resolve) => made.listen(0, '127.0.0.1', resolve));
    return url(`http://us%20er:pass@127.0.0.1:${(made.address() as AddressInfo).port}`);
  };

  it('is asked for with host, port and credentials', async () => {
    const heard: string[] = [];
    const proxy = await proxyThat('HTTP/1.1 200 fine\r\n\r\n', heard);
    const socket = await connectThrough(proxy, url('https://relay.example:8443/x'));
    socket.destroy();
    expect(heard).toEqual([`relay.example:8443 Basic ${Buffer.from('us er:pass').toString('base64')}`]);
  });

  it('that is refused rejects with the status', async () => {
    const proxy = await proxyThat('HTTP/1.1 407 no\r\nContent-Length: 0\r\n\r\n');
    await expect(connectThrough(proxy, url('https://relay.example'))).rejects.toMatchObject({ code: 'PROXY_REFUSED' });
  });
});
