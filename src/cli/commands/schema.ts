/** `sallyport schema ROLE`: prints the JSON Schema of a role's configuration file. */
import { Argument, type Command } from 'commander';
import type { CommandContext } from '../context.js';
import { toJsonSchema } from '../json-schema.js';
import { type ConfigRole, ROLE_CONFIGS } from '../role-configs.js';

export function register(program: Command, context: CommandContext): void {
  program
    .command('schema')
    .addArgument(new Argument('<role>', 'whose').choices(Object.keys(ROLE_CONFIGS)))
    .action((role: ConfigRole) => context.out(schemaText(role)));
}

/** As the package publishes it in `schema/`. */
export function schemaText(role: ConfigRole): string {
  return JSON.stringify(toJsonSchema(ROLE_CONFIGS[role], `Configuration of a Sallyport ${role}`), undefined, 2);
}
