/** Rules of the house that no other tool checks: file length, module comments, nothing skipped or silenced, no private accessors. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { root } from './prepare.mjs';

const LONGEST_FILE = 500;
const FORBIDDEN = [
  /\.(only|todo)\(/,
  /@ts-(ignore|expect-error|nocheck)/,
  /biome-ignore/,
  /\bas any\b/,
  /\b(TODO|FIXME|XXX)\b/,
  // V8 has compiled code leave itself for each; a private method is called or inlined.
  /^\s*(static )?[gs]et #/,
];

const files = execFileSync(
  'git',
  ['ls-files', '-co', '--exclude-standard', 'src', 'test', 'bench', 'scripts', 'native/quic/src'],
  {
    cwd: root,
    encoding: 'utf8',
  },
)
  .split('\n')
  .filter(
    (name) => /\.(ts|mjs|js|rs)$/.test(name) && name !== 'scripts/house-rules.mjs' && existsSync(`${root}/${name}`),
  );

const problems = [];
for (const name of files) {
  const text = readFileSync(`${root}/${name}`, 'utf8');
  const lines = text.split('\n');
  if (lines.length - 1 > LONGEST_FILE)
    problems.push(`${name}: ${lines.length - 1} lines, the limit is ${LONGEST_FILE}`);
  if (name.startsWith('src/') && !/^(#!.*\n)?\/\*\*/.test(text))
    problems.push(`${name}: does not start with a module comment`);
  lines.forEach((line, i) => {
    for (const pattern of FORBIDDEN) {
      if (pattern.test(line)) problems.push(`${name}:${i + 1}: ${pattern} is not allowed: ${line.trim()}`);
    }
  });
}
for (const problem of problems) console.error(problem);
process.exit(problems.length === 0 ? 0 : 1);
