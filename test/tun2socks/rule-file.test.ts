/** Files of rules: comments, line numbers in errors, bounds. */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { formatRule, parseRule } from '../../src/engine/rules/rule.js';
import { parseRules, readRuleFile } from '../../src/tun2socks/rule-file.js';

const folder = mkdtempSync(join(tmpdir(), 'rule-file-'));
const path = join(folder, 'rules');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('one rule a line; empty lines and comments are for people', () => {
  writeFileSync(path, '# advertisements\r\n\r\n  reject suffix=ads.example   # and below\r\nblock port=25\n#allow\n');
  expect(readRuleFile(path)).toEqual(['reject suffix=ads.example', 'block port=25']);
});

test('what is no rule is refused with its line', () => {
  expect(() => parseRules('allow\n\nreject prot=25', 'rules')).toThrow(
    expect.objectContaining({ code: 'RULES_FILE', message: expect.stringMatching(/^rules:3: .*"prot=25" is none of/) }),
  );
  expect(() => readRuleFile(join(folder, 'none'))).toThrow(expect.objectContaining({ code: 'RULES_FILE' }));
  writeFileSync(path, '');
  truncateSync(path, 500_000 * 512 + 1);
  expect(() => readRuleFile(path)).toThrow(expect.objectContaining({ code: 'RULES_FILE' }));
});

test('whatever a file holds, every rule that is taken parses, or the file is refused', () => {
  const word = fc.constantFrom(
    'allow',
    'block',
    'host=a.example',
    'port=80',
    '#',
    '# x',
    'x#y',
    '',
    ' ',
    '\t',
    'rate=',
  );
  const line = fc.oneof(
    fc.string(),
    fc.array(word, { maxLength: 4 }).map((words) => words.join(' ')),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 6 }), (lines) => {
      let rules: string[];
      try {
        rules = parseRules(lines.join('\n'), 'file');
      } catch (error) {
        expect(error).toMatchObject({ code: 'RULES_FILE' });
        return;
      }
      for (const rule of rules) expect(formatRule(parseRule(rule))).not.toBe('');
    }),
  );
});
