/** Rules in configuration files: a list of texts, or of objects with the same words. */
import * as v from 'valibot';
import { describeError } from '../../base/error.js';
import { compileRule, parseRule, RULE_ACTIONS, RULE_PROTOCOLS, SHAPE_SCOPES } from './rule.js';

const word = v.optional(v.string());
const RuleObject = v.strictObject({
  action: v.picklist(RULE_ACTIONS),
  host: word,
  suffix: word,
  cidr: word,
  port: word,
  protocol: v.optional(v.picklist(RULE_PROTOCOLS)),
  delay: word,
  jitter: word,
  rate: word,
  per: v.optional(v.picklist(SHAPE_SCOPES)),
});

/** Checked, and still as it was written: what crosses to another thread is text. */
export const RuleSchema = v.pipe(
  v.union([v.string(), RuleObject], 'must be a rule such as "reject suffix=ads.example"'),
  v.rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    try {
      if (typeof dataset.value === 'string') parseRule(dataset.value);
      else compileRule(dataset.value);
    } catch (error) {
      addIssue({ message: describeError(error) });
    }
  }),
);
