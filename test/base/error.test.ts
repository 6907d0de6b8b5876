import { describe, expect, it } from 'vitest';
import { describeError, SallyportError } from '../../src/base/error.js';

describe('an error in one line', () => {
  it('says what to do where that is known', () => {
    expect(describeError(new SallyportError('caller', 'PORT', 'no port', { hint: 'give one' }))).toBe(
      'no port (give one)',
    );
    expect(describeError(new SallyportError('caller', 'PORT', 'no port'))).toBe('no port');
    expect(describeError(new Error('other'))).toBe('other');
    expect(describeError('text')).toBe('text');
  });

  it('says what may be wrong when a module that is loaded late is gone', () => {
    const gone = Object.assign(new Error('gone'), { code: 'ERR_MODULE_NOT_FOUND' });
    expect(describeError(gone)).toBe('gone (if the program was upgraded meanwhile: start it again)');
  });
});
