import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { createLog, type LogLevel } from '../../src/cli/log.js';

const STEPS = ['debug', 'info', 'warn', 'error'] as const;

function collect(level: LogLevel, pretty = false): { lines: string[]; log: ReturnType<typeof createLog> } {
  const lines: string[] = [];
  return { lines, log: createLog('agent', level, pretty, (line) => lines.push(line)) };
}

describe('the log', () => {
  it('is one JSON object a line, with level, time, role, the fields and the message', () => {
    const { lines, log } = collect('info');
    const before = Date.now();
    log.warn({ relay: 'r1', gone: undefined, many: [1, 2], bytes: 12n }, 'a “message”\nof two lines');
    expect(lines).toHaveLength(1);
    expect(lines[0]!.endsWith('\n') && lines[0]!.indexOf('\n') === lines[0]!.length - 1).toBe(true);
    const { time, ...rest } = JSON.parse(lines[0]!);
    expect(time).toBeGreaterThanOrEqual(before);
    const fields = { relay: 'r1', many: [1, 2], bytes: 12 };
    expect(rest).toEqual({ level: 40, role: 'agent', ...fields, msg: 'a “message”\nof two lines' });
  });

  it('says what is as serious as its level or more so, and the level may change', () => {
    for (const [level, said] of [
      ['trace', 4],
      ['debug', 4],
      ['info', 3],
      ['warn', 2],
      ['error', 1],
      ['silent', 0],
    ] as const) {
      const { lines, log } = collect(level);
      for (const step of STEPS) log[step]({}, step);
      expect(lines.map((line) => JSON.parse(line).msg)).toEqual(STEPS.slice(STEPS.length - said));
      lines.length = 0;
      log.level = 'silent';
      log.error({}, 'no more');
      log.level = 'debug';
      log.debug({}, 'again');
      expect(lines.map((line) => JSON.parse(line).msg)).toEqual(['again']);
    }
  });

  it('takes whatever JSON takes as fields', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.string(), (fields, message) => {
        const { lines, log } = collect('info');
        log.info(fields, message);
        expect(JSON.parse(lines[0]!).msg).toBe(message);
        expect(lines[0]!.split('\n')).toHaveLength(2);
      }),
    );
  });

  it('is short text where a person watches', () => {
    const { lines, log } = collect('info', true);
    log.error({ code: 'E1', list: ['a'], none: undefined }, 'failed');
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d {2}ERROR {2}failed {2}code=E1 {2}list=\["a"\]\n$/);
  });

  it('gives a terminal no commands and no second line out of a peer’s text', () => {
    const { lines, log } = collect('info', true);
    log.warn({ reason: 'a\x1b[2J\x9bm' }, 'lost\n12:00:00  WARN  forged');
    expect(lines[0]!.slice(8)).toBe('  WARN  lost\\u000a12:00:00  WARN  forged  reason=a\\u001b[2J\\u009bm\n');
  });

  it('outlives its reader, and leaves nothing unwritten before the process ends', () => {
    const source = readFileSync(new URL('../../src/cli/log.ts', import.meta.url), 'utf8');
    const module = ts.transpileModule(source, {
      compilerOptions: { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext },
    });
    const run = (rest: string, shell: string) =>
      spawnSync('sh', ['-c', shell.replace('NODE', `"${process.execPath}" --input-type=module`)], {
        input: `${module.outputText}\nconst log = createLog('agent', 'info', false);\n${rest}`,
        encoding: 'utf8',
      });
    const gone = run(
      `for (let i = 0; i < 3; i++) log.info({}, 'x'.repeat(100_000)); process.stdout.write('alive');`,
      '(NODE 2>&1 >&3 | true) 3>&1',
    );
    expect(gone).toMatchObject({ status: 0, stdout: 'alive' });
    const last = run(`log.info({}, 'x'.repeat(300_000)); process.exit(3);`, 'NODE');
    expect(last.status).toBe(3);
    expect(JSON.parse(last.stderr).msg).toHaveLength(300_000);
  });
});
