import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SallyportError } from '../../src/base/error.js';
import { parseTarget } from '../../src/trace/target.js';

describe('a target', () => {
  it.each([
    ['example.com', 'example.com', undefined],
    ['example.com:443', 'example.com', 443],
    ['192.0.2.1', '192.0.2.1', undefined],
    ['192.0.2.1:1', '192.0.2.1', 1],
    ['2001:db8::1', '2001:db8::1', undefined],
    ['[2001:db8::1]', '2001:db8::1', undefined],
    ['[2001:db8::1]:65535', '2001:db8::1', 65_535],
    ['::1', '::1', undefined],
    ['_srv.example', '_srv.example', undefined],
  ])('%s is host %s, port %s', (text, host, port) => {
    expect(parseTarget(text)).toMatchObject({ text, host, port });
  });

  it('names a device by the zone of a link-local address', () => {
    expect(parseTarget('fe80::1%eth0')).toMatchObject({ host: 'fe80::1', zone: 'eth0', port: undefined });
    expect(parseTarget('[fe80::1%eth0]:80')).toMatchObject({ host: 'fe80::1', zone: 'eth0', port: 80 });
  });

  it.each([
    '',
    ':80',
    ' ',
    'two words',
    'http://example.com',
    'example.com:http',
    'example.com:',
    'example.com:+1',
    '[2001:db8::1',
    '[2001:db8::1]80',
    '[example.com]:80',
    '[192.0.2.1]:80',
    '2001:db8::1::2',
    'fe80::1%',
    'name%eth0',
    'a'.repeat(254),
    'bell\u0007',
  ])('%j is refused', (text) => {
    expect(() => parseTarget(text)).toThrow(
      expect.objectContaining({ code: 'INVALID_REQUEST', message: expect.stringMatching(/^invalid target: /) }),
    );
  });

  it.each([0, 65_536, 99_999])('has no port %d', (port) => {
    expect(() => parseTarget(`example.com:${port}`)).toThrow(`invalid port: ${port}`);
  });

  it('of any text parses or is refused', () => {
    const pieces = fc.array(fc.constantFrom('[', ']', ':', '%', '1', '.', 'a', '::', '443', ' ', '\n', 'é'), {
      maxLength: 12,
    });
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          pieces.map((all) => all.join('')),
        ),
        (text) => {
          try {
            const { host, port, literal } = parseTarget(text);
            expect(host).not.toBe('');
            expect(port === undefined || (port >= 1 && port <= 65_535)).toBe(true);
            expect(literal === undefined || literal.toString() !== '').toBe(true);
          } catch (error) {
            expect((error as SallyportError).code).toBe('INVALID_REQUEST');
            expect(error).toBeInstanceOf(SallyportError);
          }
        },
      ),
    );
  });
});
