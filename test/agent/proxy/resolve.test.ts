import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseForward } from '../../../src/agent/proxy/forward.js';
import { resolveTarget } from '../../../src/agent/proxy/resolve.js';
import { subject, view } from './policy.js';

const ask = (host: string, port: number | undefined, who = subject()): string => {
  const answer = resolveTarget(host, port, view, who);
  return answer.ok ? `${answer.service.id} ${answer.address}` : `${answer.failure}: ${answer.detail}`;
};

describe('proxy targets', () => {
  it.each([
    ['db.acme.internal', 5432, 'db 10.100.0.1:5432'],
    ['DB.Acme.INTERNAL.', 5432, 'db 10.100.0.1:5432'],
    ['db', 5432, 'db 10.100.0.1:5432'],
    ['Web', 8080, 'web 10.100.0.2:8080'],
    ['10.100.0.1', 5432, 'db 10.100.0.1:5432'],
    ['::ffff:10.100.0.1', 5432, 'db 10.100.0.1:5432'],
    ['fd12:3456:789a::1', 5432, 'db [fd12:3456:789a::1]:5432'],
    ['10.0.0.77', 22, 'lan 10.0.0.77:22'],
    ['10.0.0.77', 8050, 'lan 10.0.0.77:8050'],
    ['db', undefined, 'db 10.100.0.1:5432'],
  ])('gives %s port %s', (host, port, expected) => {
    expect(ask(host, port)).toBe(expected);
  });

  it.each([
    ['example.com', 443, /not a service of acme; nothing else goes through/],
    ['db.other.internal', 5432, /not a service of acme/],
    ['db.', 5432, /not a service of acme/],
    ['x.db.acme.internal', 5432, /not a service of acme/],
    ['.acme.internal', 80, /not a service of acme/],
    ['__proto__', 80, /not a service of acme/],
    ['192.0.2.1', 80, /not an address of a service that is granted/],
    ['127.0.0.1', 80, /not an address/],
    ['secret', 5432, /secret is not granted to laptop/],
    ['10.100.0.4', 5432, /not an address of a service that is granted/],
    ['db', 5433, /port 5433 of db is not granted to laptop; granted: 5432/],
    ['db', 0, /port 0/],
    ['names', 53, /not reachable over TCP/],
    ['lan', 22, /stands for 10\.0\.0\.0\/24/],
    ['10.0.0.77', 23, /port 23 of 10\.0\.0\.77/],
    ['web', undefined, /no single port/],
    ['10.100.0.1', undefined, /no single port/],
  ])('refuses %s port %s', (host, port, detail) => {
    expect(ask(host, port)).toMatch(/^not-allowed: /);
    expect(ask(host, port)).toMatch(detail);
  });

  it('does not reach a service that is not granted through a shorter prefix that is', () => {
    expect(ask('10.0.0.5', 22)).toMatch(/^not-allowed/);
    expect(ask('10.0.0.6', 22)).toBe('lan 10.0.0.6:22');
  });

  it('narrows a service to the ports of the grant', () => {
    const limited = subject('limited', []);
    expect(ask('web', 443, limited)).toBe('web 10.100.0.2:443');
    expect(ask('web', undefined, limited)).toBe('web 10.100.0.2:443');
    expect(ask('web', 80, limited)).toMatch(/granted: 443/);
    expect(ask('db', 5432, limited)).toMatch(/not granted/);
  });

  it('gives nothing to a revoked agent or to a connector', () => {
    expect(ask('db', 5432, subject('laptop', ['ops'], { invitationId: 'f'.repeat(32) }))).toMatch(/^not-allowed/);
    expect(ask('db', 5432, subject('laptop', ['ops'], { role: 'connector' }))).toMatch(/^not-allowed/);
  });

  it('takes the virtual IPv6 address for an agent without an IPv4 overlay address', () => {
    expect(ask('db', 5432, subject('laptop', ['ops'], { overlay4: undefined }))).toBe('db [fd12:3456:789a::1]:5432');
  });

  it('answers any text, and only ever with what the packet table allows', () => {
    const access = view.accessFor(subject());
    const hosts = fc.oneof(fc.string(), fc.ipV4(), fc.ipV6(), fc.constantFrom('db', 'web', 'lan', 'db.acme.internal'));
    fc.assert(
      fc.property(hosts, fc.option(fc.nat(65535), { nil: undefined }), (host, port) => {
        const answer = resolveTarget(host, port, view, subject(), access);
        if (!answer.ok) return;
        const { ip, port: given } = answer.address;
        expect(access.check(6, ip.w0, ip.w1, ip.w2, ip.w3, given)).toBe(answer.service.index);
      }),
    );
  });
});

describe('forwards', () => {
  it.each([
    ['5432=db', '127.0.0.1:5432', { host: 'db', port: undefined }],
    ['127.0.0.1:0=db:5432', '127.0.0.1:0', { host: 'db', port: 5432 }],
    ['[::1]:8080=web.acme.internal:80', '[::1]:8080', { host: 'web.acme.internal', port: 80 }],
    ['2222=10.0.0.7:22', '127.0.0.1:2222', { host: '10.0.0.7', port: 22 }],
    ['2222=[fd12::1]:22', '127.0.0.1:2222', { host: 'fd12::1', port: 22 }],
  ])('reads %s', (text, listen, target) => {
    const forward = parseForward(text);
    expect(forward.listen.toString()).toBe(listen);
    expect(forward.target).toEqual(target);
  });

  it.each([
    '',
    'db',
    '=db',
    '5432=',
    '65536=db',
    'localhost:1=db',
    '1=db:0',
    '1=db:70000',
    '1=[db]:1',
    '1=fd12::1',
    '1=a b',
  ])('refuses "%s"', (text) => {
    expect(() => parseForward(text)).toThrow(expect.objectContaining({ code: 'FORWARD_SYNTAX', kind: 'caller' }));
  });
});
