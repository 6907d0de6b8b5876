import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SallyportError } from '../../src/base/error.js';
import { type Flag, flagUsages, parseFlags } from '../../src/cli/flags.js';

const FLAGS: readonly Flag[] = [
  { name: 'port', short: 'p', kind: 'int', fallback: 80, usage: 'the port' },
  { name: 'proto', short: 'P', kind: 'string', fallback: 'udp', usage: 'the protocol' },
  { name: 'ipv6', kind: 'bool', usage: 'IPv6' },
  { name: 'verbose', short: 'v', kind: 'bool', usage: 'tell more' },
  { name: 'confidence', kind: 'float', usage: 'how sure' },
];
const parse = (...argv: string[]): object => {
  const { values, args } = parseFlags(FLAGS, argv);
  return { ...Object.fromEntries(values), args };
};

describe('flags', () => {
  it.each<[string[], object]>([
    [['--port', '443', 'h'], { port: 443, args: ['h'] }],
    [['--port=443', 'h'], { port: 443, args: ['h'] }],
    [['-p', '443', 'h'], { port: 443, args: ['h'] }],
    [['-p443'], { port: 443, args: [] }],
    [['-p=443'], { port: 443, args: [] }],
    [['h', '--ipv6'], { ipv6: true, args: ['h'] }],
    [['--ipv6=false', 'h'], { ipv6: false, args: ['h'] }],
    [['--ipv6', 'false'], { ipv6: true, args: ['false'] }],
    [['-vp', '1'], { verbose: true, port: 1, args: [] }],
    [['-v=0'], { verbose: false, args: [] }],
    [['--port', '-1'], { port: -1, args: [] }],
    [['--', '--port', '-p'], { args: ['--port', '-p'] }],
    [['-'], { args: ['-'] }],
    [['--proto', '', '--proto=tcp'], { proto: 'tcp', args: [] }],
    [['--confidence', '.5'], { confidence: 0.5, args: [] }],
  ])('%j are %j', (argv, expected) => {
    expect(parse(...argv)).toEqual(expected);
  });

  it.each([
    [['--nope'], 'unknown flag: --nope'],
    [['-x'], "unknown shorthand flag: 'x' in -x"],
    [['-vx'], "unknown shorthand flag: 'x' in -vx"],
    [['--port'], 'flag needs an argument: --port'],
    [['-p'], "flag needs an argument: 'p' in -p"],
    [['---port'], 'bad flag syntax: ---port'],
    [['--=1'], 'bad flag syntax: --=1'],
    [['--port=x'], 'invalid argument "x" for "-p, --port" flag: strconv.ParseInt: parsing "x": invalid syntax'],
    [
      ['--ipv6=maybe'],
      'invalid argument "maybe" for "--ipv6" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
    ],
  ])('%j are refused', (argv, message) => {
    expect(() => parse(...argv)).toThrow(expect.objectContaining({ message, code: 'FLAG_SYNTAX' }));
  });

  it('of any words are read or refused, and what is read has the flag’s type', () => {
    const word = fc.oneof(
      fc.string(),
      fc.constantFrom('--port', '-p', '-P', '--ipv6', '-v', '--', '1', '=', '-pv', '--port=1'),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 6 }), (argv) => {
        try {
          for (const [name, value] of parseFlags(FLAGS, argv).values) {
            const kind = FLAGS.find((flag) => flag.name === name)!.kind;
            expect(typeof value).toBe({ bool: 'boolean', int: 'number', float: 'number', string: 'string' }[kind]);
          }
        } catch (error) {
          if (!(error instanceof SallyportError)) throw error;
        }
      }),
    );
  });

  it('are listed by name with their defaults', () => {
    expect(flagUsages(FLAGS).split('\n')).toEqual([
      '      --confidence float   how sure',
      '      --ipv6               IPv6',
      '  -p, --port int           the port (default 80)',
      '  -P, --proto string       the protocol (default "udp")',
      '  -v, --verbose            tell more',
    ]);
  });
});
