/**
 * `sallyport invite (agent|connector) NAME`: makes a one-time join token where the operator is, and for a connector adds its
 * services to the policy. The token alone goes to standard output.
 *
 * Without `--allow` nobody may use a new service: agents are members of the groups of their own invitation (`--group`), and
 * `--allow G` on the connector's invitation grants group G the services named with it.
 */
import { type Command, Option } from 'commander';
import { SallyportError } from '../../base/error.js';
import { type WallTime, wallLater } from '../../base/time.js';
import { certificateDer } from '../../identity/certificate-pem.js';
import { generateSigningKey } from '../../identity/keys.js';
import { OperatorFolder } from '../../identity/operator-folder.js';
import { allocate } from '../../policy/allocate.js';
import { backendPorts, parseServiceSpec, type ServiceSpec } from '../../policy/backend.js';
import { encodeBase64, encodeHex } from '../../policy/base64.js';
import type { Grant, PolicyDocument, ServiceEntry } from '../../policy/document.js';
import { type Invitation, sealInvitation } from '../../policy/invitation.js';
import { isLabel, type NodeRole } from '../../policy/names.js';
import { encodeToken } from '../../policy/token.js';
import type { CommandContext } from '../context.js';
import { stateFolder } from '../state-folder.js';
import { parseExpiry, publishNote } from './operator-text.js';

const INVITATION_ID_BYTES = 16;

interface InviteOptions {
  readonly service?: string[];
  readonly group?: string[];
  readonly allow?: string[];
  readonly expires: string;
  readonly dir?: string;
  readonly json?: boolean;
}

export function register(program: Command, context: CommandContext): void {
  const many = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];
  program
    .command('invite')
    .argument('<role>', 'agent or connector')
    .argument('<name>', 'name of the node, a lower-case DNS label')
    .addOption(
      new Option('--service <id=proto://host:port>', 'connector: a service to serve; repeatable').argParser(many),
    )
    .addOption(new Option('--group <name>', 'agent: member of this group; repeatable').argParser(many))
    .addOption(new Option('--allow <group>', 'connector: who may use its services; repeatable').argParser(many))
    .option('--expires <duration>', 'how long the token may be used, for example 30m, 1h, 7d', '1h')
    .option('--dir <dir>', 'folder that holds operator/')
    .option('--json', 'for machines')
    .action((role: string, name: string, options: InviteOptions) => invite(role, name, options, context));
}

function invite(roleText: string, name: string, options: InviteOptions, context: CommandContext): void {
  const { crypto, clock, entropy, environment } = context;
  const { group = [], allow = [] } = options;
  const role = checkArguments(roleText, name, options);
  const specs = (options.service ?? []).map(parseServiceSpec);
  const wall = clock.wall();
  const expiry = wallLater(wall, parseExpiry(options.expires));
  const operator = OperatorFolder.open(stateFolder(options.dir, environment), crypto);
  try {
    if (role === 'connector') addServices(operator, name, specs, allow, wall, context);
    const { book, document } = operator;
    const overlay = role === 'agent' ? allocate('agent', document.ula, book.agents, name) : undefined;
    const inviteKey = generateSigningKey();
    const id = new Uint8Array(INVITATION_ID_BYTES);
    entropy.fill(id);
    const invitation: Invitation = {
      network: document.network,
      id: encodeHex(id),
      name,
      role,
      groups: group,
      ...(overlay === undefined ? {} : { overlay4: overlay.v4, overlay6: overlay.v6 }),
      expiry: Math.floor(expiry),
      inviteKey: encodeBase64(inviteKey.publicKey),
    };
    const envelope = sealInvitation(operator.sign, invitation);
    operator.saveBook({
      ...book,
      agents: overlay === undefined ? book.agents : { ...book.agents, [name]: overlay },
      invitations: [...book.invitations, { id: invitation.id, name, role, groups: group, expiry: invitation.expiry }],
    });
    const token = encodeToken(crypto, {
      network: document.network,
      relays: book.relays,
      ca: certificateDer(book.ca),
      policyKey: operator.key.publicKey,
      invitationEnvelope: envelope,
      inviteKey: inviteKey.seed,
      services: Object.fromEntries(specs.map((spec) => [spec.id, spec.url])),
    });
    const until = new Date(invitation.expiry).toISOString();
    if (options.json === true) {
      const { version } = operator.document;
      context.out(
        JSON.stringify({ token, id: invitation.id, role, name, expires: until, ...overlay, policyVersion: version }),
      );
      return;
    }
    context.note(`Join token for ${role} ${name}, to be used once before ${until}. Keep it secret; on that machine:`);
    context.note(`  sallyport ${role} --join-file FILE`);
    context.out(token);
  } finally {
    operator.close();
  }
}

/** @throws SallyportError INVITE_ARGUMENT (caller). */
function checkArguments(role: string, name: string, options: InviteOptions): NodeRole {
  const wrong = (message: string, hint?: string): SallyportError =>
    new SallyportError('caller', 'INVITE_ARGUMENT', message, hint === undefined ? {} : { hint });
  if (role !== 'agent' && role !== 'connector') throw wrong(`"${role}" is no role`, 'agent or connector');
  const { group = [], allow = [], service = [] } = options;
  for (const label of [name, ...group, ...allow]) {
    if (!isLabel(label)) throw wrong(`"${label}" is not a lower-case DNS label`, 'a–z, 0–9 and inner hyphens');
  }
  if (role === 'agent' && (service.length > 0 || allow.length > 0)) {
    throw wrong('--service and --allow belong to a connector’s invitation', 'an agent has --group');
  }
  if (role === 'connector' && group.length > 0) throw wrong('--group belongs to an agent’s invitation', 'use --allow');
  if (allow.length > 0 && service.length === 0) throw wrong('--allow needs a --service to allow');
  return role;
}

/** Adds the services to the policy and signs it, when that changes anything. */
function addServices(
  operator: OperatorFolder,
  connector: string,
  specs: readonly ServiceSpec[],
  allow: readonly string[],
  wall: WallTime,
  context: CommandContext,
): void {
  let { book, document } = operator;
  for (const spec of specs) {
    const addresses =
      spec.backend.target === 'cidr'
        ? undefined
        : allocate('service', document.ula, book.services, spec.id, {
            ...(spec.virtualIp4 === undefined ? {} : { v4: spec.virtualIp4 }),
            ...(spec.virtualIp6 === undefined ? {} : { v6: spec.virtualIp6 }),
          });
    if (addresses !== undefined) book = { ...book, services: { ...book.services, [spec.id]: addresses } };
    document = withService(document, spec, addresses, connector);
  }
  const ids = specs.map((spec) => spec.id);
  document = withGrant(document, allow, ids);
  if (document === operator.document) return;
  operator.saveBook(book);
  context.note(publishNote(operator.publish(document, wall)));
  const granted = new Set(document.grants.flatMap((grant) => grant.to));
  const closed = ids.filter((id) => !granted.has(id) && !granted.has('*'));
  if (closed.length > 0)
    context.note(`Nobody may use ${closed.join(', ')} yet: no --allow, and no grant in the policy.`);
}

/** The document with this connector serving this service. @throws SallyportError SERVICE_EXISTS (caller). */
function withService(
  document: PolicyDocument,
  spec: ServiceSpec,
  addresses: { readonly v4: string; readonly v6: string } | undefined,
  connector: string,
): PolicyDocument {
  const { backend, id } = spec;
  const old = document.services.find((service) => service.id === id);
  const connectors = [...new Set([...(old?.connectors ?? []), connector])];
  const path = spec.path ?? old?.path;
  const entry: ServiceEntry = {
    id,
    protocols: backend.protocols,
    ports: backendPorts(backend),
    target: backend.target,
    ...(backend.prefix === undefined ? {} : { prefix: backend.prefix.toString() }),
    ...(addresses === undefined ? {} : { virtualIp4: addresses.v4, virtualIp6: addresses.v6 }),
    connectors,
    ...(path === undefined ? {} : { path }),
  };
  if (old === undefined) return { ...document, services: [...document.services, entry] };
  const shape = (service: ServiceEntry): string =>
    JSON.stringify([service.protocols, service.ports, service.target, service.prefix ?? null]);
  if (shape(old) !== shape(entry)) {
    throw new SallyportError(
      'caller',
      'SERVICE_EXISTS',
      `the service ${id} exists with other protocols, ports or target`,
      {
        hint: 'take another id, or change it with "sallyport policy apply"',
      },
    );
  }
  if (JSON.stringify(old) === JSON.stringify(entry)) return document;
  return { ...document, services: document.services.map((service) => (service === old ? entry : service)) };
}

/** The document with a grant of these services to these groups, unless it has it. */
function withGrant(document: PolicyDocument, allow: readonly string[], ids: readonly string[]): PolicyDocument {
  const grant: Grant = { from: allow.map((group) => `group:${group}`), to: [...ids] };
  const present = document.grants.some((one) => JSON.stringify(one) === JSON.stringify(grant));
  if (allow.length === 0 || present) return document;
  return { ...document, grants: [...document.grants, grant] };
}
