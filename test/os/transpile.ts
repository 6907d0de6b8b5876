/**
 * The modules of src/base, src/wire and src/os as plain JavaScript in a folder of their own, for worker threads and child
 * processes: they run without the test runner's transformation, and must not depend on an earlier build.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Transpiled {
  /** The URL of a module, for example `os/linux/linux.js`. */
  url(module: string): URL;
  /** Adds a module of JavaScript text; its imports are relative to the top, for example `./os/linux/linux.js`. */
  add(name: string, text: string): URL;
  remove(): void;
}

/** Inside node_modules, so that packages resolve and neither git nor the linter sees it. */
export function transpileSources(): Transpiled {
  const cache = join(ROOT, 'node_modules', '.cache');
  mkdirSync(cache, { recursive: true });
  const out = mkdtempSync(join(cache, 'sallyport-os-'));
  writeFileSync(join(out, 'package.json'), '{"type":"module"}');
  for (const folder of ['base', 'wire', 'os']) {
    for (const file of readdirSync(join(ROOT, 'src', folder), { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const target = join(out, folder, file.replace(/\.ts$/, '.js'));
      const { outputText } = ts.transpileModule(readFileSync(join(ROOT, 'src', folder, file), 'utf8'), {
        compilerOptions: {
          target: ts.ScriptTarget.ES2023,
          module: ts.ModuleKind.ESNext,
          verbatimModuleSyntax: true,
        },
      });
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, outputText);
    }
  }
  return {
    url: (module) => pathToFileURL(join(out, module)),
    add: (name, text) => {
      writeFileSync(join(out, name), text);
      return pathToFileURL(join(out, name));
    },
    remove: () => rmSync(out, { recursive: true, force: true }),
  };
}
