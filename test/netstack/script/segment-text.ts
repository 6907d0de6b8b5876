/**
 * Segments as text, for scripts:
 *
 *   FLAGS seq[+length] [ack N] [win N] [mss N] [scale N] [sackok] [ts value/echo] [sack a-b,c-d] [tos N] [urg N] [opt HEX] [uto N]
 *         [ecn ORDER:a,b,c]
 *
 * FLAGS: letters of S F R P A U E(CE) C(WR) N (the AE bit, once NS), or `-` for none. `ecn`: counters of the AccECN option;
 * `ecn none` expects none. Numbers of bytes are relative to the initial sequence
 * numbers. In an expectation a field that is not written is not compared, but for sequence, length, flags (PSH aside) and,
 * when ACK is set, the acknowledgement number, which default to what is written or 0.
 */
import { pattern } from '../harness.js';
import type { Fields, Seen, WirePeer } from '../wire-peer.js';

export interface SegmentText {
  flags: string;
  fields: Fields;
  length: number;
  /** Names of the fields that were written. */
  named: Set<string>;
}

const order = (flags: string): string => [...'FSRPAUECN'].filter((c) => flags.includes(c)).join('');

export function parseSegmentText(words: readonly string[], w: WirePeer): SegmentText {
  const fields: Fields = {};
  const named = new Set<string>();
  const [flags = '-', range = '0', ...rest] = words;
  const [seq, length] = range.split('+').map(Number);
  fields.seq = seq!;
  if (length !== undefined) fields.data = pattern(1, length);
  for (let i = 0; i < rest.length; i++) {
    const name = rest[i]!;
    named.add(name);
    if (name === 'sackok') {
      fields.sackPermitted = true;
      continue;
    }
    const value = rest[++i];
    if (value === undefined) throw new Error(`${name} needs a value: ${words.join(' ')}`);
    if (name === 'ack') fields.ack = Number(value);
    else if (name === 'win') fields.window = Number(value);
    else if (name === 'mss') fields.mss = Number(value);
    else if (name === 'scale') fields.scale = Number(value);
    else if (name === 'tos') fields.tos = Number(value);
    else if (name === 'urg') fields.urgent = Number(value);
    else if (name === 'offset') fields.dataOffset = Number(value);
    else if (name === 'ts') fields.ts = timestamps(value, w);
    else if (name === 'sack') {
      fields.sack = value === 'none' ? [] : value.split(',').map((b) => b.split('-').map(Number) as [number, number]);
    } else if (name === 'uto') fields.userTimeout = Number(value);
    else if (name === 'ecn') {
      const [ecnOrder = '', counters = ''] = value.split(':');
      const bytes = counters === '' ? [] : counters.split(',').map(Number);
      if (value !== 'none') fields.ecn = { order: Number(ecnOrder), bytes };
    } else if (name === 'opt') fields.options = new Uint8Array(Buffer.from(value, 'hex'));
    else throw new Error(`unknown field ${name}: ${words.join(' ')}`);
  }
  return { flags: flags === '-' ? '' : order(flags), fields, length: length ?? 0, named };
}

/** `value/echo`; the echo may be `last` (what the stack sent last) with an offset: `last-300`. */
function timestamps(text: string, w: WirePeer): readonly [number, number] {
  const [value = '0', echo = '0'] = text.split('/');
  const relative = /^last([+-]\d+)?$/.exec(echo);
  const echoed = relative === null ? Number(echo) : (w.lastTimestamp + Number(relative[1] ?? 0)) >>> 0;
  return [Number(value), echoed];
}

/** What was expected and what came, as text of the same shape. */
export function compare(expected: SegmentText, seen: Seen, w: WirePeer): readonly [string, string] {
  const { fields: f, named } = expected;
  const wanted: string[] = [];
  const came: string[] = [];
  const both = (name: string, a: unknown, b: unknown): void => {
    wanted.push(`${name} ${String(a)}`);
    came.push(`${name} ${String(b)}`);
  };
  const strip = (flags: string): string => (expected.flags.includes('P') ? flags : flags.replace('P', ''));
  both('flags', expected.flags, strip(order(seen.flags)));
  both('seq', `${f.seq}+${expected.length}`, `${seen.seq}+${seen.data.length}`);
  if (expected.flags.includes('A')) both('ack', f.ack ?? 0, seen.ack);
  if (named.has('win')) both('win', f.window, seen.window);
  if (named.has('mss')) both('mss', f.mss, seen.options.mss);
  if (named.has('scale')) both('scale', f.scale, seen.options.windowScale);
  if (named.has('sackok')) both('sackok', true, seen.options.sackPermitted);
  if (named.has('tos')) both('tos', f.tos, seen.tos);
  if (named.has('ts')) both('ts echo', f.ts![1], seen.options.hasTimestamps ? seen.options.timestampEcho : 'none');
  if (named.has('uto')) both('uto', f.userTimeout, seen.options.userTimeout);
  if (named.has('ecn')) {
    const { ecnCount, ecnOrder, ecnBytes } = seen.options;
    const text = (e: Fields['ecn']) => (e === undefined ? 'none' : `${e.order}:${e.bytes.join(',')}`);
    both('ecn', text(f.ecn), ecnCount < 0 ? 'none' : `${ecnOrder}:${ecnBytes.slice(0, ecnCount).join(',')}`);
  }
  if (named.has('sack')) {
    const blocks: string[] = [];
    for (let i = 0; i < seen.options.sackCount; i++) {
      const edge = (j: number): number => (seen.options.sackEdges[2 * i + j]! - w.iss) | 0;
      blocks.push(`${edge(0)}-${edge(1)}`);
    }
    both('sack', f.sack!.map((b) => b.join('-')).join(',') || 'none', blocks.join(',') || 'none');
  }
  return [wanted.join('  '), came.join('  ')];
}
