/** Bytes that went through a host's network device, as its kernel counts them. */
import type { Host } from '../../test/lab/host.js';

interface LinkStatistics {
  readonly stats64?: { readonly rx: { readonly bytes: number }; readonly tx: { readonly bytes: number } };
}

/** Received and sent bytes together. */
export function deviceBytes(host: Host, device: string): number {
  const [link] = JSON.parse(host.ip('-j', '-s', 'link', 'show', 'dev', device)) as LinkStatistics[];
  return (link?.stats64?.rx.bytes ?? 0) + (link?.stats64?.tx.bytes ?? 0);
}
