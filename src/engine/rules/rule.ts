/**
 * One rule about flows, as text, as an object (configuration files), and compiled:
 *
 *   ACTION [host=NAME] [suffix=NAME] [cidr=PREFIX] [port=80,8000-8080] [protocol=tcp|udp|icmp]
 *          [with=HOW] [rate=UP[/DOWN]] [delay=…] [jitter=…] [loss=…] [per=rule|host|flow]
 *
 *   allow       goes its way                  block     gets no answer at all
 *   reject      refused at once; with= how    shape     goes its way, held back: rate=2mbit delay=100ms jitter=20ms
 *                                             delay     the same; it has to say delay=
 *
 * Everything given must fit. `host` is one name, `suffix` a name and all below it.
 */
import { IpAddress, Prefix } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import { type Duration, Micros, Millis, Seconds, toMillis } from '../../base/time.js';
import type { FlowProtocol } from '../hooks.js';
import { hostName } from '../names/host-name.js';
import type { FlowShape } from '../shaping/rate.js';
import { type Refusal, refusalProblem } from './refusal.js';

export const RULE_ACTIONS = ['allow', 'block', 'reject', 'delay', 'shape'] as const;
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
  readonly with?: string | undefined;
  readonly rate?: string | undefined;
  readonly per?: RateShare | undefined;
  readonly delay?: string | undefined;
  readonly jitter?: string | undefined;
  readonly loss?: string | undefined;
}

/** Who shares a rate: all flows of the rule, those to one host (or, without a name, address), or nobody. */
export const RATE_SHARES = ['rule', 'host', 'flow'] as const;
export type RateShare = (typeof RATE_SHARES)[number];

/** How flows are held back; `per` says whose key they have. */
export interface RuleShape extends Omit<FlowShape, 'key'> {
  readonly per: RateShare;
}

export interface Rule {
  readonly action: RuleAction;
  readonly host: string | undefined;
  readonly suffix: string | undefined;
  readonly prefix: Prefix | undefined;
  /** Inclusive ranges: from, to, from, to …; undefined = every port. */
  readonly ports: readonly number[] | undefined;
  readonly protocol: FlowProtocol | undefined;
  /** How `reject` refuses, when not as usual. */
  readonly refusal: Refusal | undefined;
  readonly shape: RuleShape | undefined;
}

const KEYS = ['host', 'suffix', 'cidr', 'port', 'protocol', 'with', 'rate', 'delay', 'jitter', 'loss', 'per'] as const;
/** Delays beyond this are mistakes: connections end before. */
const DELAY_MAX = Seconds(60);
/** Bits a second; slower than the first nothing gets anywhere, faster than the last the machine does not. */
const RATE_MIN = 8_000;
const RATE_MAX = 1e12;
const RATE_UNITS = { gbit: 1e9, mbit: 1e6, kbit: 1e3, bit: 1 } as const;

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
  const problem = rule.with === undefined ? undefined : refusalProblem(action, rule.with, protocol);
  if (problem !== undefined) fail(problem);
  const refusal = rule.with as Refusal | undefined;
  const shape = shapeOf(rule, fail);
  const isShaping = action === 'delay' || action === 'shape';
  if (shape !== undefined && !isShaping)
    fail(`rate=, delay=, jitter=, loss= and per= belong to shape, not to ${action}`);
  if (shape !== undefined && protocol === 'icmp') fail('echo is not held back: protocol= is tcp or udp');
  if (rule.loss !== undefined && protocol === 'tcp') fail('loss= is of datagrams: TCP loses nothing here');
  if (action === 'shape' && (rule.rate ?? rule.delay ?? rule.jitter ?? rule.loss) === undefined) {
    fail('shape wants rate=, delay=, jitter= or loss=');
  }
  if (action === 'delay' && rule.delay === undefined) fail('delay wants delay=…');
  return { action, host: nameOf('host'), suffix: nameOf('suffix'), prefix, ports, protocol, refusal, shape };
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
    with: rule.refusal,
    delay: shape && span(shape.latency),
    jitter: shape && span(shape.jitter),
    rate: shape && formatRates(shape),
    loss: shape?.loss === undefined ? undefined : `${Number((shape.loss * 100).toFixed(3))}%`,
    per: shape === undefined || shape.per === 'rule' ? undefined : shape.per,
  });
}

function formatRuleText(rule: RuleText): string {
  const words = KEYS.flatMap((key) => (rule[key] === undefined ? [] : [`${key}=${rule[key]}`]));
  return [rule.action, ...words].join(' ');
}

function shapeOf(rule: RuleText, fail: (why: string) => never): RuleShape | undefined {
  const { delay, jitter, rate, loss, per = 'rule' } = rule;
  if ((delay ?? jitter ?? rate ?? loss ?? rule.per) === undefined) return undefined;
  if (!RATE_SHARES.includes(per)) fail(`per= is ${RATE_SHARES.join(', ')}`);
  const [up, down = up, ...more] = (rate ?? '').split('/');
  if (more.length > 0) fail(`rate=${rate} is more than one rate up and one down`);
  const rateOf = (text: string): number => {
    if (rate === undefined || text === 'any') return Number.POSITIVE_INFINITY;
    const match = /^(\d{1,6}(?:\.\d{1,3})?)(bit|kbit|mbit|gbit)$/.exec(text);
    const bits = match === null ? 0 : Math.round(Number(match[1]) * RATE_UNITS[match[2] as keyof typeof RATE_UNITS]);
    return bits < RATE_MIN || bits > RATE_MAX
      ? fail(`"${text}" is no rate such as 500kbit or 2mbit, 8kbit or more`)
      : bits / 8;
  };
  const spanOf = (text: string | undefined): Duration => {
    const match = /^(\d{1,6}(?:\.\d{1,3})?)(ms|s)$/.exec(text ?? '0ms');
    const span = match === null ? Micros(-1) : (match[2] === 's' ? Seconds : Millis)(Number(match[1]));
    return span < 0 || span > DELAY_MAX ? fail(`"${text}" is no time such as 100ms or 2s, at most 60s`) : span;
  };
  const percent = Number(/^(\d{1,3}(?:\.\d{1,3})?)%$/.exec(loss ?? '')?.[1] ?? 0);
  if (loss !== undefined && (percent === 0 || percent > 100)) fail(`loss=${loss} is no share such as 1% or 0.5%`);
  return {
    up: rateOf(up!),
    down: rateOf(down!),
    latency: spanOf(delay),
    jitter: spanOf(jitter),
    ...(loss === undefined ? {} : { loss: percent / 100 }),
    per,
  };
}

/** `2mbit`, `1mbit/8mbit`, `any/8mbit`; undefined without a limit. */
function formatRates({ up, down }: RuleShape): string | undefined {
  const text = (bytesPerSecond: number): string => {
    if (bytesPerSecond === Number.POSITIVE_INFINITY) return 'any';
    const bits = bytesPerSecond * 8;
    const unit = (['gbit', 'mbit', 'kbit', 'bit'] as const).find(
      (one) => bits % (RATE_UNITS[one] / 1000) === 0 && bits >= RATE_UNITS[one],
    );
    return `${bits / RATE_UNITS[unit ?? 'bit']}${unit ?? 'bit'}`;
  };
  const [first, second] = [text(up), text(down)];
  return first !== second ? `${first}/${second}` : first === 'any' ? undefined : first;
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
