/** Loads an entry of ours into a JavaScript context that has nothing but the language: nothing of Node, nothing of a browser. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import ts from 'typescript';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));

export interface BareContext {
  readonly context: vm.Context;
  readonly exports: Readonly<Record<string, unknown>>;
  /** What was imported that is no file of ours. */
  readonly refused: readonly string[];
  /** How many files were loaded. */
  readonly modules: number;
}

/** TypeScript as CommonJS. */
export function transpile(text: string): string {
  return ts.transpileModule(text, {
    compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: false },
  }).outputText;
}

/** Follows the imports by hand; whatever is not a file of ours is refused. @param entry in the repository */
export function loadBare(entry: string): BareContext {
  const context = vm.createContext(Object.create(null) as object);
  const modules = new Map<string, object>();
  const refused: string[] = [];
  const load = (path: string): object => {
    const known = modules.get(path);
    if (known !== undefined) return known;
    const exports = {};
    modules.set(path, exports);
    const require = (name: string): object => {
      if (!name.startsWith('.')) {
        refused.push(`${path}: ${name}`);
        throw new Error(`${name} is not there`);
      }
      return load(join(dirname(path), name.replace(/\.js$/, '.ts')));
    };
    const text = `(function (exports, require) {${transpile(readFileSync(path, 'utf8'))}\n})`;
    const run = vm.runInContext(text, context, { filename: path }) as (
      exports: object,
      require: (name: string) => object,
    ) => void;
    run(exports, require);
    return exports;
  };
  const exports = load(join(REPOSITORY, entry)) as Readonly<Record<string, unknown>>;
  return { context, exports, refused, modules: modules.size };
}
