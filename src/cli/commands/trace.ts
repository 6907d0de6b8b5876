/** `sallyport trace` and its help; its arguments are read by its own rules. */
import type { Command } from 'commander';
import { declareFlags } from '../flags.js';
import { TRACE_FLAGS } from '../trace/flags.js';
import { TRACE_USAGE } from '../trace/program.js';

export function register(program: Command): void {
  const command = program.command('trace').usage('[flags] TARGET');
  declareFlags(command, TRACE_FLAGS);
  command.helpInformation = () => `${TRACE_USAGE}\n`;
}
