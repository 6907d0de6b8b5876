/** Rules in configuration files: texts, each checked as it will be read, with what is wrong in the message. */
import * as v from 'valibot';
import { describeError } from '../../base/error.js';
import { parseRule } from './rule.js';

const RULE = 'must be a rule such as "reject suffix=ads.example"';

/** What is wrong with a rule; undefined when nothing is. */
function problemOf(text: string): string | undefined {
  try {
    parseRule(text);
    return undefined;
  } catch (error) {
    return describeError(error);
  }
}

export const RuleSchema = v.pipe(
  v.string(RULE),
  v.check(
    (text) => problemOf(text) === undefined,
    ({ input }) => problemOf(input) ?? RULE,
  ),
);
