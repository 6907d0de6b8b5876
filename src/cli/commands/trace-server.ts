/** `sallyport trace-server` and its help; its arguments are read by its own rules. */
import type { Command } from 'commander';
import { declareFlags } from '../flags.js';
import { SERVER_FLAGS, SERVER_USAGE } from '../trace/server.js';

export function register(program: Command): void {
  const command = program.command('trace-server').usage('[flags]');
  declareFlags(command, SERVER_FLAGS);
  command.helpInformation = () => `${SERVER_USAGE}\n`;
}
