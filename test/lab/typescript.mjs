/**
 * Import this first (`node --import ./test/lab/typescript.mjs FILE.ts`) to run TypeScript sources of this repository.
 */
import module from 'node:module';
import * as hooks from './typescript-hooks.mjs';

// Newer versions of Node take the hooks in the same thread and advise against the older call.
if ('registerHooks' in module) /** @type {(hooks: object) => void} */ (module.registerHooks)(hooks);
else module.register('./typescript-hooks.mjs', import.meta.url);
