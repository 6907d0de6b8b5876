/**
 * Rules in their order; the first that fits a flow decides, and a flow that none fits is allowed.
 *
 *   flow ─► rules of its host and of every suffix of it (by name) ─┐
 *           rules without a name (in order) ───────────────────────┴─► the one that stands first
 *
 * Lists of hundreds of thousands of names cost one lookup per label. A rule that names a host fits only flows whose name is known.
 */
import type { IpAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import type { FlowProtocol } from '../hooks.js';
import { formatRule, type Rule } from './rule.js';

/** Rules of one set. */
export const RULES_MAX = 500_000;
/** Rules of one set without a name, each of which is looked at for every flow. */
const UNNAMED_MAX = 4096;

/** Rules that are listed with what they decided. */
const LISTED = 256;

export interface RuleHits {
  readonly rule: string;
  readonly hits: number;
}

/** What a flow is judged by. */
export interface JudgedFlow {
  readonly protocol: FlowProtocol;
  readonly address: IpAddress;
  /** 0 for ICMP. */
  readonly port: number;
  /** In the form of `hostName`; undefined when it is not known (yet). */
  readonly host: string | undefined;
}

export class RuleSet {
  /** How often each rule decided. */
  readonly hits: number[] = [];
  readonly #rules: Rule[] = [];
  readonly #unnamed: number[] = [];
  readonly #hosts = new Map<string, number[]>();
  readonly #suffixes = new Map<string, number[]>();

  /** @throws SallyportError RULES_MANY (caller). */
  constructor(rules: readonly Rule[] = []) {
    for (const rule of rules) this.add(rule);
  }

  get rules(): readonly Rule[] {
    return this.#rules;
  }

  /** One more, behind the others. @throws SallyportError RULES_MANY (caller). */
  add(rule: Rule): void {
    const { host, suffix } = rule;
    const i = this.#rules.push(rule) - 1;
    this.hits.push(0);
    if (host !== undefined) add(this.#hosts, host, i);
    else if (suffix !== undefined) add(this.#suffixes, suffix, i);
    else this.#unnamed.push(i);
    if (i >= RULES_MAX || this.#unnamed.length > UNNAMED_MAX) {
      const most = i >= RULES_MAX ? `${RULES_MAX} rules` : `${UNNAMED_MAX} rules without a host`;
      throw new SallyportError('caller', 'RULES_MANY', `there are more than ${most}`);
    }
  }

  /** Whether any rule names a host: otherwise names change nothing. */
  get namesMatter(): boolean {
    return this.#hosts.size + this.#suffixes.size > 0;
  }

  /** Every rule with how often it decided, in order; of more than 256 the first ones that did. */
  decided(): readonly RuleHits[] {
    const listed: RuleHits[] = [];
    for (let i = 0; i < this.#rules.length && listed.length < LISTED; i++) {
      const hits = this.hits[i]!;
      if (this.#rules.length <= LISTED || hits > 0) listed.push({ rule: formatRule(this.#rules[i]!), hits });
    }
    return listed;
  }

  /** The number of the rule that decides about a flow; −1: none, so it is allowed. */
  find(flow: JudgedFlow): number {
    let best = this.#first(this.#unnamed, flow, this.rules.length);
    const { host } = flow;
    if (host !== undefined && this.namesMatter) {
      best = this.#first(this.#hosts.get(host), flow, best);
      for (let at = 0; at >= 0; at = host.indexOf('.', at) + 1 || -1) {
        best = this.#first(this.#suffixes.get(at === 0 ? host : host.slice(at)), flow, best);
      }
    }
    return best === this.rules.length ? -1 : best;
  }

  #first(candidates: readonly number[] | undefined, flow: JudgedFlow, before: number): number {
    if (candidates !== undefined) {
      for (const index of candidates) {
        if (index >= before) break;
        if (fits(this.rules[index]!, flow)) return index;
      }
    }
    return before;
  }
}

/** Everything but `host` where the rule has one: that is how it was found. Both names of a rule must fit. */
function fits(rule: Rule, flow: JudgedFlow): boolean {
  if (rule.protocol !== undefined && rule.protocol !== flow.protocol) return false;
  if (rule.ports !== undefined && !hasPort(rule.ports, flow.port)) return false;
  if (rule.prefix !== undefined && !rule.prefix.contains(flow.address)) return false;
  if (rule.host === undefined || rule.suffix === undefined) return true;
  return rule.host === rule.suffix || rule.host.endsWith(`.${rule.suffix}`);
}

function hasPort(ranges: readonly number[], port: number): boolean {
  for (let i = 0; i < ranges.length; i += 2) if (port >= ranges[i]! && port <= ranges[i + 1]!) return true;
  return false;
}

function add(map: Map<string, number[]>, key: string, index: number): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [index]);
  else list.push(index);
}
