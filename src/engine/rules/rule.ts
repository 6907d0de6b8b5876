/**
 * One rule about flows, as text, as an object (configuration files), and compiled:
 *
 *   ACTION [host=NAME] [suffix=NAME] [cidr=PREFIX] [port=80,8000-8080] [protocol=tcp|udp|icmp] [delay=…] [jitter=…]
 *
 *   allow       goes its way                  block     gets no answer at all
 *   reject      refused at once               delay     a TCP flow is dialled later: delay=100ms jitter=20ms
 *
 * Everything given must fit. `host` is one name, `suffix` a name and all below it.
 */
import { IpAddress, Prefix } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import { type Duration, Micros, Millis, Seconds, toMillis } from '../../base/time.js';
import type { FlowProtocol } from '../hooks.js';
import { hostName } from '../names/host-name.js';

export const RULE_ACTIONS = ['allow', 'block', 'reject', 'delay'] as const;
export type RuleAction = (typeof RULE_ACTIONS)[number];
export const RULE_PROTOCOLS = ['tcp', 'udp', 'icmp'] as const;

/** As written in a configuration file; the same words as in the text form. */
export interface RuleText {
  readonly action: RuleAction;
  readonly host?: string | undefined;
  readonly suffix?: string | undefined;
  readonly cidr?: string | undefined;
  readonly port?: string | undefined;
  readonly protocol?: FlowProtocol | undefined;
  readonly delay?: string | undefined;
  readonly jitter?: string | undefined;
}

/** How much later a flow is dialled. */
export interface Shape {
  readonly latency: Duration;
  /** Added at random, 0 to this much. */
  readonly jitter: Duration;
}

export interface Rule {
  readonly action: RuleAction;
  readonly host: string | undefined;
  readonly suffix: string | undefined;
  readonly prefix: Prefix | undefined;
  /** Inclusive ranges: from, to, from, to …; undefined = every port. */
  readonly ports: readonly number[] | undefined;
  readonly protocol: FlowProtocol | undefined;
  readonly shape: Shape | undefined;
}

const KEYS = ['host', 'suffix', 'cidr', 'port', 'protocol', 'delay', 'jitter'] as const;
/** Delays beyond this are mistakes: connections end before. */
const DELAY_MAX = Seconds(60);

/** Splits the text form. @throws SallyportError RULE (caller). */
export function parseRule(text: string): Rule {
  const [action, ...words] = text.trim().split(/\s+/);
  const fields: Record<string, string> = {};
  for (const word of words) {
    const at = word.indexOf('=');
    const key = word.slice(0, at);
    if (at <= 0 || !(KEYS as readonly string[]).includes(key)) {
      throw invalid(text, `"${word}" is none of ${KEYS.map((known) => `${known}=`).join(', ')}`);
    }
    if (fields[key] !== undefined) throw invalid(text, `${key}= is there twice`);
    fields[key] = word.slice(at + 1);
  }
  return compileRule({ ...(fields as Omit<RuleText, 'action'>), action: action as RuleAction }, text);
}

/** @throws SallyportError RULE (caller). @param shown how the rule is named in errors */
export function compileRule(rule: RuleText, shown = formatRuleText(rule)): Rule {
  const fail = (why: string): never => {
    throw invalid(shown, why);
  };
  const { action, protocol } = rule;
  if (!RULE_ACTIONS.includes(action)) fail(`a rule begins with ${RULE_ACTIONS.join(', ')}`);
  if (protocol !== undefined && !RULE_PROTOCOLS.includes(protocol)) fail(`protocol= is ${RULE_PROTOCOLS.join(', ')}`);
  const nameOf = (key: 'host' | 'suffix'): string | undefined => {
    const text = rule[key];
    if (text === undefined) return undefined;
    if (IpAddress.parse(text) !== undefined) fail(`${text} is an address: cidr=${text}`);
    return hostName(text) ?? fail(`${key}=${text} is no host name in ASCII (other letters as xn--…)`);
  };
  const prefix = rule.cidr === undefined ? undefined : Prefix.parse(rule.cidr);
  if (rule.cidr !== undefined && prefix === undefined) fail(`cidr=${rule.cidr} is no prefix such as 10.0.0.0/8`);
  const ports = rule.port === undefined ? undefined : parsePorts(rule.port);
  if (rule.port !== undefined && ports === undefined) fail(`port=${rule.port} is no list such as 443,8000-8080`);
  if (ports !== undefined && protocol === 'icmp') fail('ICMP has no ports');
  const shape = shapeOf(rule, fail);
  if (shape !== undefined && action !== 'delay') fail(`delay= and jitter= belong to delay, not to ${action}`);
  if (action === 'delay' && rule.delay === undefined) fail('delay wants delay=…');
  return { action, host: nameOf('host'), suffix: nameOf('suffix'), prefix, ports, protocol, shape };
}

/** The text form; parses to the same rule. */
export function formatRule(rule: Rule): string {
  const { shape, ports } = rule;
  const span = (value: Duration): string | undefined => (value === 0 ? undefined : `${toMillis(value)}ms`);
  return formatRuleText({
    action: rule.action,
    host: rule.host,
    suffix: rule.suffix,
    cidr: rule.prefix?.toString(),
    port: ports && formatPorts(ports),
    protocol: rule.protocol,
    delay: shape && span(shape.latency),
    jitter: shape && span(shape.jitter),
  });
}

function formatRuleText(rule: RuleText): string {
  const words = KEYS.flatMap((key) => (rule[key] === undefined ? [] : [`${key}=${rule[key]}`]));
  return [rule.action, ...words].join(' ');
}

function shapeOf(rule: RuleText, fail: (why: string) => never): Shape | undefined {
  const { delay, jitter } = rule;
  if (delay === undefined && jitter === undefined) return undefined;
  const spanOf = (text: string | undefined): Duration => {
    const match = /^(\d{1,6}(?:\.\d{1,3})?)(ms|s)$/.exec(text ?? '0ms');
    const span = match === null ? Micros(-1) : (match[2] === 's' ? Seconds : Millis)(Number(match[1]));
    return span < 0 || span > DELAY_MAX ? fail(`"${text}" is no time such as 100ms or 2s, at most 60s`) : span;
  };
  return { latency: spanOf(delay), jitter: spanOf(jitter) };
}

/** `80,443,8000-8080` as ranges. */
function parsePorts(text: string): number[] | undefined {
  const ranges: number[] = [];
  for (const part of text.split(',')) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part);
    const from = Number(match?.[1]);
    const to = match?.[2] === undefined ? from : Number(match[2]);
    if (!(from >= 1 && from <= to && to <= 65_535)) return undefined;
    ranges.push(from, to);
  }
  return ranges;
}

function formatPorts(ranges: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < ranges.length; i += 2) {
    parts.push(ranges[i] === ranges[i + 1] ? `${ranges[i]}` : `${ranges[i]}-${ranges[i + 1]}`);
  }
  return parts.join(',');
}

function invalid(text: string, why: string): SallyportError {
  return new SallyportError('caller', 'RULE', `the rule "${text}" cannot be used: ${why}`, {
    hint: 'for example "reject suffix=ads.example protocol=tcp port=443"',
  });
}
