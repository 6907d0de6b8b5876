/** docs/engine.md names every optional member that a host may give, and no other. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { REPOSITORY } from '../lab/services.js';

const read = (path: string): string => readFileSync(join(REPOSITORY, path), 'utf8');

/** Optional members of a type, wherever in it they stand: `Type.member`. */
function optionalMembers(path: string, type: string): string[] {
  const names: string[] = [];
  const collect = (node: ts.Node): void => {
    if (ts.isPropertySignature(node)) {
      if (node.questionToken !== undefined) names.push(`${type}.${node.name.getText()}`);
      return;
    }
    ts.forEachChild(node, collect);
  };
  const file = ts.createSourceFile(path, read(path), ts.ScriptTarget.ES2022, true);
  for (const statement of file.statements) {
    const isType = ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement);
    if (isType && statement.name.text === type) collect(statement);
  }
  return names;
}

test('the table of what is optional is the types', () => {
  const [, table = ''] = read('docs/engine.md').match(/\n\| optional \| what \|\n\|---\|---\|\n((?:\|.*\n)+)/) ?? [];
  const documented = table.split('\n').flatMap((row) => [...(row.split(' | ')[0] ?? '').matchAll(/`(\w+\.\w+)`/g)]);
  const expected = [
    ...optionalMembers('src/engine/engine.ts', 'EngineOptions'),
    ...optionalMembers('src/engine/hooks.ts', 'EngineHooks'),
    ...optionalMembers('src/engine/hooks.ts', 'FlowDecision'),
    ...optionalMembers('src/engine/host/traffic-options.ts', 'EngineDns'),
  ];
  expect(expected).toContain('FlowDecision.delay');
  expect(documented.map(([, name]) => name).sort()).toEqual(expected.sort());
});
