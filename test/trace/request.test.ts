import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SallyportError } from '../../src/base/error.js';
import { Millis } from '../../src/base/time.js';
import { checkRequest, type TraceRequest } from '../../src/trace/request.js';

describe('a request', () => {
  it('has the defaults of datadog-traceroute', () => {
    expect(checkRequest('example.com', {})).toMatchObject({
      port: 33_434,
      queries: 3,
      endToEndQueries: 50,
      ipv6: false,
      reverseDns: false,
      sourcePublicIp: false,
      options: {
        protocol: 'udp',
        tcpMethod: 'syn',
        port: 33_434,
        minTtl: 1,
        maxTtl: 30,
        timeout: Millis(3_000),
        sendDelay: Millis(50),
        repeats: 1,
        paris: false,
        tos: 0,
      },
    });
  });

  it('takes a port in the target before the one beside it, and 0 for the default', () => {
    const both = checkRequest('example.com:443', { port: 80 });
    expect([both.port, both.options.port]).toEqual([80, 443]);
    expect(checkRequest('example.com', { port: 0 }).options.port).toBe(33_434);
    expect(checkRequest('example.com', { protocol: 'quic' }).options.port).toBe(443);
  });

  it('takes an empty TCP method for syn, and sends SACK probes faster', () => {
    expect(checkRequest('h', { protocol: 'tcp', tcpMethod: '' }).options.tcpMethod).toBe('syn');
    expect(checkRequest('h', { protocol: 'tcp', tcpMethod: 'prefer_sack' }).options.sendDelay).toBe(Millis(10));
  });

  it('has no queries where none or fewer are asked for', () => {
    expect(checkRequest('h', { queries: 0, endToEndQueries: -1 })).toMatchObject({ queries: 0, endToEndQueries: 0 });
  });

  it.each<[TraceRequest, string, string]>([
    [{ protocol: 'UDP' }, 'unknown protocol: "UDP"', 'INVALID_REQUEST'],
    [{ protocol: '' }, 'unknown protocol: ""', 'INVALID_REQUEST'],
    [{ tcpMethod: 'fin' }, 'unexpected TCPMethod: fin', 'UNKNOWN'],
    [{ port: 65_536 }, 'invalid port: 65536', 'INVALID_REQUEST'],
    [{ port: -1 }, 'invalid port: -1', 'INVALID_REQUEST'],
    [{ maxTtl: 0 }, 'invalid max TTL: 0 (1 to 255)', 'INVALID_REQUEST'],
    [{ maxTtl: 256 }, 'invalid max TTL: 256 (1 to 255)', 'INVALID_REQUEST'],
    [{ maxTtl: -1 }, 'invalid max TTL: -1 (1 to 255)', 'INVALID_REQUEST'],
    [{ minTtl: 0 }, 'min TTL must be at least 1', 'INVALID_REQUEST'],
    [{ minTtl: 9, maxTtl: 8 }, 'invalid min TTL: 9 (1 to 8)', 'INVALID_REQUEST'],
    [{ timeoutMilliseconds: 0 }, 'invalid timeout: 0 (1 to 3600000)', 'INVALID_REQUEST'],
    [{ queries: 101 }, 'invalid traceroute queries: 101 (1 to 100)', 'INVALID_REQUEST'],
    [{ endToEndQueries: 10_001 }, 'invalid e2e queries: 10001 (1 to 10000)', 'INVALID_REQUEST'],
    [{ source: 'eth0' }, 'invalid source address: "eth0"', 'INVALID_REQUEST'],
    [{ tos: 256 }, 'invalid TOS: 256 (0 to 255)', 'INVALID_REQUEST'],
    [{ multipath: 1 }, 'invalid confidence: 1', 'INVALID_REQUEST'],
    [{ privilege: 'root' }, 'unknown privilege: "root"', 'INVALID_REQUEST'],
  ])('of %j is refused: %s', (request, message, code) => {
    expect(() => checkRequest('h', request)).toThrow(expect.objectContaining({ message, code }));
  });

  it('of any numbers is checked or refused, and what is checked is in range', () => {
    const number = fc.option(fc.oneof(fc.integer(), fc.double(), fc.integer({ min: -2, max: 300 })), {
      nil: undefined,
    });
    const numbers = fc.record({
      port: number,
      maxTtl: number,
      minTtl: number,
      queries: number,
      endToEndQueries: number,
      timeoutMilliseconds: number,
    });
    fc.assert(
      fc.property(numbers, (given) => {
        const request = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
        try {
          const { options, queries, endToEndQueries } = checkRequest('h', request);
          expect(options.minTtl).toBeGreaterThanOrEqual(1);
          expect(options.maxTtl).toBeLessThanOrEqual(255);
          expect(options.minTtl).toBeLessThanOrEqual(options.maxTtl);
          expect(queries).toBeLessThanOrEqual(100);
          expect(endToEndQueries).toBeLessThanOrEqual(10_000);
        } catch (error) {
          if (!(error instanceof SallyportError)) throw error;
        }
      }),
    );
  });
});
