/** Where a command finds the state folder. */
import { join } from 'node:path';

/** `--dir`, `SALLYPORT_DIR`, else the system's place for state of this user. */
export function stateFolder(flag: unknown, environment: NodeJS.ProcessEnv): string {
  if (typeof flag === 'string' && flag !== '') return flag;
  const variable = environment['SALLYPORT_DIR'];
  if (variable !== undefined && variable !== '') return variable;
  if (process.getuid?.() === 0) return '/var/lib/sallyport';
  const state = environment['XDG_STATE_HOME'] || join(environment['HOME'] ?? '.', '.local', 'state');
  return join(state, 'sallyport');
}
