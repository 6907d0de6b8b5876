/**
 * `sallyport policy show | lint | test | apply FILE | explain AGENT SERVICE`: the operator's view of the policy.
 */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { SallyportError } from '../../base/error.js';
import { wallLater } from '../../base/time.js';
import { OperatorFolder } from '../../identity/operator-folder.js';
import {
  POLICY_LIFETIME,
  type PolicyDocument,
  parseDocument,
  SERVICE_PROTOCOLS,
  type ServiceProtocol,
} from '../../policy/document.js';
import { explain, runTests } from '../../policy/explain.js';
import { type Finding, lint } from '../../policy/lint.js';
import { formatPorts } from '../../policy/ranges.js';
import { compile, type Subject } from '../../policy/view.js';
import type { CommandContext } from '../context.js';
import { stateFolder } from '../state-folder.js';
import { publishNote } from './operator-text.js';

interface CommonOptions {
  readonly dir?: string;
  readonly json?: boolean;
}

interface ExplainOptions extends CommonOptions {
  readonly protocol?: string;
  readonly port?: string;
}

export function register(program: Command, context: CommandContext): void {
  const policy = program.command('policy');
  const common = (command: Command): Command =>
    command.option('--dir <dir>', 'folder that holds operator/').option('--json', 'for machines');
  common(policy.command('show').description('services, grants and revocations in force')).action(
    (options: CommonOptions) => withOperator(options, context, (operator) => show(operator.document, options, context)),
  );
  common(policy.command('lint').description('findings; exit 1 when one is an error')).action((options: CommonOptions) =>
    withOperator(options, context, (operator) => check(operator, options, context)),
  );
  common(policy.command('test').description('the tests of the policy; exit 1 when one fails')).action(
    (options: CommonOptions) => withOperator(options, context, (operator) => test(operator.document, options, context)),
  );
  common(policy.command('apply').description('sign a changed policy; version and notAfter are set by this command'))
    .argument('<file>', 'JSON as "policy show --json" prints it')
    .action((file: string, options: CommonOptions) =>
      withOperator(options, context, (operator) => apply(operator, file, options, context)),
    );
  common(policy.command('explain').description('why an agent may, or may not, use a service'))
    .argument('<agent>', 'name of the agent')
    .argument('<service>', 'id of the service')
    .option('--protocol <protocol>', SERVICE_PROTOCOLS.join(', '))
    .option('--port <port>', 'destination port')
    .action((agent: string, service: string, options: ExplainOptions) =>
      withOperator(options, context, (operator) => why(operator, agent, service, options, context)),
    );
}

function withOperator(
  options: CommonOptions,
  context: CommandContext,
  action: (operator: OperatorFolder) => void,
): void {
  const operator = OperatorFolder.open(stateFolder(options.dir, context.environment), context.crypto);
  try {
    action(operator);
  } finally {
    operator.close();
  }
}

function show(document: PolicyDocument, options: CommonOptions, context: CommandContext): void {
  if (options.json === true) {
    context.out(JSON.stringify(document, null, 2));
    return;
  }
  const view = compile(document);
  const lines = [
    `network ${document.network}, version ${document.version}, valid until ${new Date(document.notAfter).toISOString()}`,
    'services:',
    ...view.services.map(({ entry, prefixes, ports }) => {
      const connectors = entry.connectors.join(', ') || 'no connector';
      return `  ${entry.id}  ${entry.protocols.join('+')}  ports ${formatPorts(ports)}  ${prefixes.join(', ')}  (${connectors})`;
    }),
    'grants:',
    ...document.grants.map((grant, i) => `  ${i + 1}. ${grant.from.join(', ')} → ${grant.to.join(', ')}`),
    `revoked invitations: ${document.revocations.length}`,
  ];
  context.out(lines.join('\n'));
}

function check(operator: OperatorFolder, options: CommonOptions, context: CommandContext): void {
  const findings = findingsOf(operator, operator.document, context);
  if (options.json === true) context.out(JSON.stringify({ findings }));
  else context.out(findings.map(findingLine).join('\n') || 'No findings.');
  failOnErrors(findings);
}

function test(document: PolicyDocument, options: CommonOptions, context: CommandContext): void {
  const failures = runTests(compile(document));
  if (options.json === true) context.out(JSON.stringify({ tests: document.tests.length, failures }));
  else
    context.out(
      [...failures, `${document.tests.length - failures.length} of ${document.tests.length} passed`].join('\n'),
    );
  if (failures.length > 0) throw new SallyportError('caller', 'POLICY_TEST', `${failures.length} of its tests fail`);
}

function apply(operator: OperatorFolder, file: string, options: CommonOptions, context: CommandContext): void {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new SallyportError('caller', 'POLICY_FILE', `${file} cannot be read as JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
  const document = parseDocument(value);
  const { network, ula, version } = operator.document;
  if (document.network !== network || document.ula !== ula) {
    throw new SallyportError('caller', 'NETWORK_MISMATCH', `${file} is for another network or ula prefix`);
  }
  if (document.version !== version) {
    throw new SallyportError(
      'caller',
      'POLICY_STALE',
      `${file} was made from version ${document.version}, not ${version}`,
      {
        hint: 'start again from "policy show --json"',
      },
    );
  }
  const revived = operator.document.revocations.filter((id) => !document.revocations.includes(id));
  const wall = context.clock.wall();
  const findings = findingsOf(operator, { ...document, notAfter: wallLater(wall, POLICY_LIFETIME) }, context);
  for (const finding of findings) context.note(findingLine(finding));
  failOnErrors(findings);
  if (revived.length > 0) context.note(`Revoked invitations that count again: ${revived.join(', ')}`);
  const { book } = operator;
  const services = Object.fromEntries(
    document.services.flatMap(({ id, virtualIp4: v4, virtualIp6: v6 }) =>
      v4 === undefined || v6 === undefined ? [] : [[id, { v4, v6 }]],
    ),
  );
  const relays = document.relays ?? book.relays.slice(0, 1);
  operator.saveBook({ ...book, relays, services: { ...book.services, ...services } });
  const published = operator.publish(document, wall);
  if (options.json === true)
    context.out(JSON.stringify({ policyVersion: published.version, copied: published.copied, findings }));
  else context.out(publishNote(published));
}

function why(
  operator: OperatorFolder,
  agent: string,
  service: string,
  options: ExplainOptions,
  context: CommandContext,
): void {
  const { protocol } = options;
  if (protocol !== undefined && !(SERVICE_PROTOCOLS as readonly string[]).includes(protocol)) {
    throw new SallyportError('caller', 'PROTOCOL', `"${protocol}" is none of ${SERVICE_PROTOCOLS.join(', ')}`);
  }
  const answer = explain(compile(operator.document), subjectOf(operator, agent), {
    service,
    protocol: protocol as ServiceProtocol | undefined,
    port: options.port === undefined ? undefined : Number(options.port),
  });
  if (options.json === true) context.out(JSON.stringify({ agent, service, ...answer }));
  else
    context.out([answer.allowed ? 'allowed' : 'denied', ...answer.reasons.map((reason) => `  ${reason}`)].join('\n'));
}

/** The agent by its latest invitation that is not revoked, else its latest. */
function subjectOf(operator: OperatorFolder, agent: string): Subject {
  const invitations = operator.book.invitations.filter((one) => one.name === agent && one.role === 'agent').reverse();
  const revoked = new Set(operator.document.revocations);
  const invitation = invitations.find((one) => !revoked.has(one.id)) ?? invitations[0];
  if (invitation === undefined) {
    throw new SallyportError('caller', 'UNKNOWN_NODE', `no agent named ${agent} was ever invited`, {
      hint: `sallyport invite agent ${agent}`,
    });
  }
  return { role: 'agent', name: agent, groups: invitation.groups, invitationId: invitation.id };
}

function findingsOf(operator: OperatorFolder, document: PolicyDocument, context: CommandContext): Finding[] {
  const knownGroups = new Set(operator.book.invitations.flatMap((one) => one.groups));
  return lint(document, { wall: context.clock.wall(), knownGroups });
}

function findingLine(finding: Finding): string {
  return `${finding.code} ${finding.severity}: ${finding.message}`;
}

function failOnErrors(findings: readonly Finding[]): void {
  const errors = findings.filter((finding) => finding.severity === 'error').length;
  if (errors > 0)
    throw new SallyportError('caller', 'POLICY_LINT', `the policy has ${errors} error${errors > 1 ? 's' : ''}`);
}
