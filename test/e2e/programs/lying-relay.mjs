/**
 * Makes a liar of a relay that runs with `NODE_OPTIONS=--import=…/lying-relay.mjs`: what its packet thread says to nodes passes through
 * a lie, the one that the file `SALLYPORT_LIE` holds at that moment.
 *
 *   {"type": "opened", "set": {"connector": "c2"}}                    every `opened` says so
 *   {"type": "registered", "service": "web", "set": {…}}             of a `registered`, what it says of that service
 *
 * It knows the product by its modules alone, so the relay's program has to be that of `dist`; the product does not know it.
 */
import { existsSync, readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { isMainThread } from 'node:worker_threads';

/** @typedef {{ readonly type: string, readonly [field: string]: unknown }} Message */
/** @typedef {{ readonly type: string, readonly service?: string, readonly set: Record<string, unknown> }} Lie */

const file = process.env['SALLYPORT_LIE'] ?? '';
/** The module that the thread runs: `…/relay/packet-thread.js`, beside what it imports. */
const thread = process.argv[1] ?? '';
if (!isMainThread && thread.endsWith('/relay/packet-thread.js')) {
  const { NodeConnection } = await import(new URL('node-connection.js', pathToFileURL(thread)).href);
  for (const way of ['send', 'push']) {
    const honest = NodeConnection.prototype[way];
    NodeConnection.prototype[way] = /** @this {unknown} @param {Message} message */ function (message) {
      honest.call(this, twisted(message));
    };
  }
}

/** @param {Message} message @returns {Message} */
function twisted(message) {
  if (!existsSync(file)) return message;
  const lie = /** @type {Lie} */ (JSON.parse(readFileSync(file, 'utf8')));
  if (message.type !== lie.type) return message;
  if (lie.service === undefined) return { ...message, ...lie.set };
  const services = /** @type {{ id: string }[]} */ (message['services']);
  return { ...message, services: services.map((one) => (one.id === lie.service ? { ...one, ...lie.set } : one)) };
}
