/**
 * What the kernel dropped on its way to a device of ours, because the queue behind it was full:
 *
 *   /proc/net/dev   name: received bytes packets errs drop fifo frame compressed multicast · sent bytes packets errs drop …
 */
import { readFileSync } from 'node:fs';

/** The column "drop" of what was sent, counted from the one behind the name. */
const SENT_DROP = 11;

/** Packets since the device was made; 0 when there is no such device (any more). */
export function deviceDrops(device: string): number {
  return parseDeviceDrops(readFileSync('/proc/net/dev', 'latin1'), device);
}

export function parseDeviceDrops(text: string, device: string): number {
  for (const line of text.split('\n')) {
    const at = line.indexOf(':');
    if (at < 0 || line.slice(0, at).trim() !== device) continue;
    const count = Number(
      line
        .slice(at + 1)
        .trim()
        .split(/\s+/)[SENT_DROP],
    );
    return Number.isSafeInteger(count) ? count : 0;
  }
  return 0;
}
