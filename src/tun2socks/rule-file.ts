/**
 * A file of rules, one a line in their text form; lines may be empty, and what stands behind a `#` is for people.
 *
 *   # advertisements
 *   reject suffix=ads.example      # and all below it
 */
import { readFileSync, statSync } from 'node:fs';
import { describeError, SallyportError } from '../base/error.js';
import { parseRule } from '../engine/rules/rule.js';
import { RULES_MAX } from '../engine/rules/rule-set.js';

/** As many rules as there may be, each as long as a name may be and as much again. */
const BYTES_MAX = RULES_MAX * 512;

/** The rules of a file, each checked. @throws SallyportError RULES_FILE (caller): it names the line. */
export function readRuleFile(path: string): string[] {
  let content: string;
  try {
    if (statSync(path).size > BYTES_MAX)
      throw new SallyportError('caller', 'RULES_FILE', `it is above ${BYTES_MAX} bytes`);
    content = readFileSync(path, 'utf8');
  } catch (cause) {
    const message = `the rules in ${path} cannot be read: ${describeError(cause)}`;
    throw new SallyportError('caller', 'RULES_FILE', message, { cause });
  }
  return parseRules(content, path);
}

/** @param name of the text, for errors. @throws SallyportError RULES_FILE (caller): it names the line. */
export function parseRules(content: string, name: string): string[] {
  const rules: string[] = [];
  for (const [i, line] of content.split('\n').entries()) {
    const rule = line.replace(/(^|\s)#.*/, '').trim();
    if (rule === '') continue;
    try {
      parseRule(rule);
    } catch (cause) {
      throw new SallyportError('caller', 'RULES_FILE', `${name}:${i + 1}: ${describeError(cause)}`, { cause });
    }
    rules.push(rule);
  }
  return rules;
}
