/** `sallyport metrics`: the counters of the running role in Prometheus' text format, for its node exporter or a scrape by script. */
import type { Command } from 'commander';
import { engineMetricsText } from '../../engine/metrics.js';
import { askLocal } from '../../os/local-control.js';
import type { CommandContext } from '../context.js';
import { prometheusText } from '../prometheus.js';
import { stateFolder } from '../state-folder.js';
import type { RoleStatus } from '../status-types.js';

export function register(program: Command, context: CommandContext): void {
  program
    .command('metrics')
    .option('--dir <dir>', 'state folder')
    .option('--json', 'for machines that are not Prometheus')
    .action(async (options: { readonly dir?: string; readonly json?: boolean }) => {
      const dir = stateFolder(options.dir, context.environment);
      const status = (await askLocal(dir, { command: 'status' })) as RoleStatus;
      if (status.role === 'tun2socks') {
        const { role, name, metrics } = status;
        context.out(options.json ? JSON.stringify({ role, name, ...metrics }) : engineMetricsText(metrics));
        return;
      }
      const { role, network, name, counters, drops } = status;
      if (options.json) context.out(JSON.stringify({ role, network, name, counters, drops }));
      else context.out(prometheusText(status));
    });
}
