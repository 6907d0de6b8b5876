/** What the host's rules in `--mode kernel` follow: the services of this connector that it has a backend for. */
import type { PolicyView } from '../policy/view.js';
import type { ServiceBackend } from './backends.js';
import type { KernelPlan, KernelService } from './kernel-rules.js';

export function kernelPlan(
  view: PolicyView | undefined,
  connector: string,
  backends: ReadonlyMap<string, ServiceBackend>,
): KernelPlan {
  const services = (view?.servicesOf(connector) ?? []).flatMap(({ id, entry, prefixes }): KernelService[] => {
    const backend = backends.get(id);
    if (backend === undefined) return [];
    const { protocols, target } = entry;
    return target === 'cidr'
      ? [{ protocols, virtual: [], prefix: `${prefixes[0]}`, address: undefined, port: 0 }]
      : [
          {
            protocols,
            virtual: prefixes.map(({ ip }) => `${ip}`),
            prefix: undefined,
            address: backend.address?.toString(),
            port: backend.port,
          },
        ];
  });
  return { ula: view?.document.ula, services };
}
