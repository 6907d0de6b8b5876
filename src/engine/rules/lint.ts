/** What is legal in a list of rules but surely not meant: rules that can never decide, and names that come too late. */
import { isUnder } from '../names/host-name.js';
import { formatRule, type Rule } from './rule.js';

export interface RuleProblem {
  /** Place of the rule, from 0. */
  readonly index: number;
  readonly message: string;
}

/** Earlier rules each rule is compared with: long lists of names are generated, and their order with them. */
const COMPARED = 256;

export function lintRules(rules: readonly Rule[]): RuleProblem[] {
  const problems: RuleProblem[] = [];
  for (const [index, rule] of rules.entries()) {
    const tell = (message: string): number => problems.push({ index, message: `"${formatRule(rule)}" ${message}` });
    const earlier = rules.slice(0, Math.min(index, COMPARED)).findIndex((other) => covers(other, rule));
    if (earlier >= 0)
      tell(`never decides: rule ${earlier + 1} ("${formatRule(rules[earlier]!)}") fits everything it fits`);
    const { host, suffix, protocol } = rule;
    if (host !== undefined && suffix !== undefined && !isUnder(host, suffix))
      tell('fits nothing: the host is not under the suffix');
    if (protocol === 'icmp' && (host ?? suffix) !== undefined)
      tell('fits only echoes to addresses that were looked up before');
  }
  return problems;
}

/** Whether everything that fits `b` fits `a`. */
function covers(a: Rule, b: Rule): boolean {
  if (a.protocol !== undefined && a.protocol !== b.protocol) return false;
  if (
    a.prefix !== undefined &&
    !(b.prefix !== undefined && a.prefix.length <= b.prefix.length && a.prefix.contains(b.prefix.ip))
  ) {
    return false;
  }
  if (a.host !== undefined && a.host !== b.host) return false;
  if (a.suffix !== undefined) {
    const under = (name: string | undefined): boolean => name !== undefined && isUnder(name, a.suffix!);
    if (!under(b.host) && !under(b.suffix)) return false;
  }
  return a.ports === undefined || (b.ports !== undefined && portsInside(b.ports, a.ports));
}

/** Whether each range of `inner` lies within one of `outer`. */
function portsInside(inner: readonly number[], outer: readonly number[]): boolean {
  for (let i = 0; i < inner.length; i += 2) {
    let isInside = false;
    for (let k = 0; k < outer.length; k += 2) isInside ||= inner[i]! >= outer[k]! && inner[i + 1]! <= outer[k + 1]!;
    if (!isInside) return false;
  }
  return true;
}
