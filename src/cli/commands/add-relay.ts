/**
 * `sallyport add-relay NAME --relay HOST:PORT`: one more relay for the network. The signed policy names it, so every node hears of
 * it from the relays there are; join tokens made from now on name it too.
 *
 *   DIR/relay-NAME/   relay certificate, signed policy; no CA key: nodes enrol and renew at the first relay only
 *
 * Run again for a relay that exists, it issues a new certificate, and changes its address when one is given. Relays renew theirs by
 * themselves, at the first one.
 */
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { SallyportError } from '../../base/error.js';
import { OperatorFolder } from '../../identity/operator-folder.js';
import { createFurtherRelay, loadRelayFolder, reissueRelay } from '../../identity/relay-folder.js';
import { isLabel } from '../../policy/names.js';
import { MAX_RELAYS, type RelayContact } from '../../policy/relay-contact.js';
import type { CommandContext } from '../context.js';
import { stateFolder } from '../state-folder.js';
import { CONTROL_PORT, hostPort, publishNote, RELAY_PORT } from './operator-text.js';

interface AddRelayOptions {
  readonly relay?: string;
  readonly control?: string;
  readonly ca?: string;
  readonly dir?: string;
  readonly json?: boolean;
}

export function register(program: Command, context: CommandContext): void {
  program
    .command('add-relay')
    .argument('<name>', 'name of the relay, a lower-case DNS label')
    .option('--relay <host:port>', `public address of the relay (UDP); port ${RELAY_PORT} unless given`)
    .option(
      '--control <host:port>',
      `public address of its control listener (TCP); else the relay's host, ${CONTROL_PORT}`,
    )
    .option('--ca <dir>', 'folder of the relay that has the CA key (default relay/ beside operator/)')
    .option('--dir <dir>', 'folder that holds operator/')
    .option('--json', 'for machines')
    .action((name: string, options: AddRelayOptions) => addRelay(name, options, context));
}

async function addRelay(name: string, options: AddRelayOptions, context: CommandContext): Promise<void> {
  if (!isLabel(name)) throw wrong(`relay name "${name}" is not a lower-case DNS label`);
  const dir = resolve(stateFolder(options.dir, context.environment));
  const operator = OperatorFolder.open(dir, context.crypto);
  try {
    const { book } = operator;
    const present = book.relays.find((one) => one.name === name);
    if (present === book.relays[0]) throw wrong(`${name} is the relay that "sallyport init" made`);
    const contact = contactOf(name, options, present);
    if (present === undefined && book.relays.length >= MAX_RELAYS) {
      throw wrong(`a network has at most ${MAX_RELAYS} relays`, 'RELAY_LIMIT');
    }
    const { authority } = loadRelayFolder(resolve(options.ca ?? join(dir, 'relay')), true);
    if (authority === undefined) throw wrong('that relay’s folder has no CA key: name the first relay’s with --ca');
    const wall = context.clock.wall();
    const relays =
      present === undefined ? [...book.relays, contact] : book.relays.map((one) => (one === present ? contact : one));
    const folder = join(dir, `relay-${name}`);
    const isNew = !(await reissueRelay(folder, authority, contact, wall));
    if (isNew) {
      const resetKey = new Uint8Array(64);
      context.entropy.fill(resetKey);
      const policyKey = operator.key.publicKey;
      await createFurtherRelay(folder, authority, { contact, policyKey, policy: operator.envelope, resetKey }, wall);
    }
    operator.saveBook({ ...book, relays });
    const published = operator.publish({ ...operator.document, relays }, wall);
    if (options.json === true) {
      context.out(JSON.stringify({ folder, ...contact, policyVersion: published.version, relays: relays.length }));
      return;
    }
    context.out(
      [
        isNew ? `Relay ${name} added.` : `Relay ${name} has a new certificate.`,
        `  ${folder}   ${isNew ? 'put this on its host' : 'copy its cert.pem and relay.json to its host, then SIGHUP the relay'}`,
        '',
        publishNote(published),
        'Nodes hear of it as soon as a relay that they are connected to has this policy.',
      ].join('\n'),
    );
  } finally {
    operator.close();
  }
}

function contactOf(name: string, options: AddRelayOptions, present: RelayContact | undefined): RelayContact {
  if (options.relay === undefined) {
    if (present === undefined) throw wrong(`where is relay ${name}? Name its public address with --relay`);
    return present;
  }
  const relay = hostPort(options.relay, RELAY_PORT, '--relay');
  const control = hostPort(options.control ?? relay.host, CONTROL_PORT, '--control');
  return { name, quic: relay.text, control: `https://${control.text}` };
}

function wrong(message: string, code = 'RELAY_ARGUMENT'): SallyportError {
  return new SallyportError('caller', code, message);
}
