import { describe, expect, it } from 'vitest';
import { traceError, traceErrorCode } from '../../src/trace/error.js';

const errno = (code: string): Error => Object.assign(new Error(code), { code });

describe('the code of a trace error', () => {
  it.each([
    ['ETIMEDOUT', 'TIMEOUT'],
    ['ECONNREFUSED', 'CONNREFUSED'],
    ['EHOSTUNREACH', 'HOSTUNREACH'],
    ['ENETUNREACH', 'NETUNREACH'],
    ['EACCES', 'DENIED'],
    ['EPERM', 'DENIED'],
    ['ENOTFOUND', 'DNS'],
    ['EIO', 'UNKNOWN'],
    ['toString', 'UNKNOWN'],
  ])('of %s is %s, also through a chain of causes', (code, expected) => {
    expect(traceErrorCode(errno(code))).toBe(expected);
    const wrapped = traceError('UNKNOWN', 'outer', new Error('middle', { cause: errno(code) }));
    expect(traceErrorCode(wrapped)).toBe(expected);
  });

  it('is its own before its cause’s', () => {
    expect(traceErrorCode(traceError('DNS', 'no addresses found', errno('ETIMEDOUT')))).toBe('DNS');
  });

  it('of an abort is TIMEOUT, of anything that is no error UNKNOWN', () => {
    expect(traceErrorCode(AbortSignal.abort().reason)).toBe('TIMEOUT');
    expect(traceErrorCode('text')).toBe('UNKNOWN');
    const loop = new Error('loop');
    loop.cause = loop;
    expect(traceErrorCode(loop)).toBe('UNKNOWN');
  });
});
