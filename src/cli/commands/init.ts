/**
 * `sallyport init`: creates a network.
 *
 *   DIR/operator/   policy key, policy, book: keep it where the operator is
 *   DIR/relay/      CA, relay certificate, signed policy: put it on the relay's host
 */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { SallyportError } from '../../base/error.js';
import { wallLater } from '../../base/time.js';
import { createCa } from '../../identity/authority.js';
import { generateSigningKey } from '../../identity/keys.js';
import { OperatorFolder } from '../../identity/operator-folder.js';
import { createRelayFolder } from '../../identity/relay-folder.js';
import { randomUla } from '../../policy/allocate.js';
import { POLICY_LIFETIME, type PolicyDocument } from '../../policy/document.js';
import { isLabel } from '../../policy/names.js';
import type { CommandContext } from '../context.js';
import { stateFolder } from '../state-folder.js';
import { CONTROL_PORT, hostPort, RELAY_PORT } from './operator-text.js';

const RELAY_NAME = 'relay';

interface InitOptions {
  readonly name: string;
  readonly relay: string;
  readonly control?: string;
  readonly dir?: string;
  readonly json?: boolean;
}

export function register(program: Command, context: CommandContext): void {
  program
    .command('init')
    .option('--name <network>', 'name of the network, a lower-case DNS label', 'sallyport')
    .option('--relay <host:port>', `public address of the relay (UDP); port ${RELAY_PORT} unless given`, '127.0.0.1')
    .option(
      '--control <host:port>',
      `public address of its control listener (TCP); else the relay's host, ${CONTROL_PORT}`,
    )
    .option('--dir <dir>', 'folder to create them in')
    .option('--json', 'for machines')
    .action((options: InitOptions) => init(options, context));
}

async function init(options: InitOptions, context: CommandContext): Promise<void> {
  const { clock, entropy, environment } = context;
  const network = options.name;
  if (!isLabel(network)) {
    throw new SallyportError('caller', 'NETWORK_NAME', `network name "${network}" is not a lower-case DNS label`, {
      hint: 'a–z, 0–9 and inner hyphens, at most 63 characters',
    });
  }
  const relay = hostPort(options.relay, RELAY_PORT, '--relay');
  const control = hostPort(options.control ?? relay.host, CONTROL_PORT, '--control');
  const contact = { name: RELAY_NAME, quic: relay.text, control: `https://${control.text}` };
  const dir = resolve(stateFolder(options.dir, environment));
  for (const folder of [join(dir, 'operator'), join(dir, 'relay')]) {
    if (existsSync(folder)) {
      throw new SallyportError('caller', 'OPERATOR_EXISTS', `${folder} exists already`, {
        hint: 'choose another folder with --dir',
      });
    }
  }
  const wall = clock.wall();
  const ca = await createCa(network, wall);
  const key = generateSigningKey();
  const document: PolicyDocument = {
    network,
    version: 1,
    notAfter: wallLater(wall, POLICY_LIFETIME),
    ula: randomUla(entropy),
    groups: {},
    services: [],
    grants: [],
    revocations: [],
    tests: [],
  };
  const book = { network, relays: [contact], ca: ca.certificatePem, services: {}, agents: {}, invitations: [] };
  const signed = OperatorFolder.create(dir, { key, book, document });
  const resetKey = new Uint8Array(64);
  entropy.fill(resetKey);
  await createRelayFolder(
    join(dir, 'relay'),
    {
      network,
      contact,
      policyKey: key.publicKey,
      caPem: ca.certificatePem,
      caKeyPem: ca.keyPem,
      policy: signed.envelope,
      resetKey,
    },
    wall,
  );
  const folders = { operator: join(dir, 'operator'), relay: join(dir, 'relay') };
  if (options.json === true) {
    context.out(
      JSON.stringify({ network, ula: document.ula, ...folders, quic: contact.quic, control: contact.control }),
    );
    return;
  }
  context.out(
    [
      `Network ${network} created.`,
      `  ${folders.operator}   keep this: its policy key decides who may do what`,
      `  ${folders.relay}   put this on the relay host, and nowhere else`,
      '',
      `Next, on the relay host:   sallyport relay --dir ${folders.relay}`,
      `Then, here:                sallyport invite connector NAME --service web=tcp://HOST:PORT --allow staff --dir ${dir}`,
      `                           sallyport invite agent NAME --group staff --dir ${dir}`,
    ].join('\n'),
  );
}
