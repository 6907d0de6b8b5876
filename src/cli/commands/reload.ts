/** `sallyport reload`: what SIGHUP does, and says whether it was taken. */
import type { Command } from 'commander';
import { askLocal } from '../../os/local-control.js';
import type { CommandContext } from '../context.js';
import { stateFolder } from '../state-folder.js';

export function register(program: Command, context: CommandContext): void {
  program
    .command('reload')
    .option('--dir <dir>', 'state folder')
    .option('--json', 'for machines')
    .action(async (options: { readonly dir?: string; readonly json?: boolean }) => {
      await askLocal(stateFolder(options.dir, context.environment), { command: 'reload' });
      context.out(options.json ? JSON.stringify({ reloaded: true }) : 'reloaded');
    });
}
