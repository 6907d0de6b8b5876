/**
 * Why an agent may, or may not, use a service: the same evaluation as on the packet path, told in words; and the policy's
 * own tests.
 */
import type { PolicyTest, ServiceProtocol } from './document.js';
import { formatPorts, includesPort } from './ranges.js';
import type { PolicyView, Subject } from './view.js';

export interface Explanation {
  readonly allowed: boolean;
  /** Sentences, the deciding one first. */
  readonly reasons: readonly string[];
}

export interface Question {
  readonly service: string;
  readonly protocol?: ServiceProtocol | undefined;
  readonly port?: number | undefined;
}

export function explain(view: PolicyView, subject: Subject, question: Question): Explanation {
  const no = (...reasons: string[]): Explanation => ({ allowed: false, reasons });
  const service = view.service(question.service);
  if (service === undefined) return no(`there is no service ${question.service}`);
  const { entry } = service;
  if (subject.role !== 'agent') return no(`${subject.name} is a ${subject.role}; only agents use services`);
  if (view.isRevoked(subject.invitationId)) return no(`the invitation of ${subject.name} is revoked`);
  const names = view.subjectNames(subject);
  const isCalled = `${subject.name} is ${[...names].filter((name) => name !== '*').join(', ')}`;
  const grants = view.grantsFor(subject, service.id);
  if (grants.length === 0) return no(`no grant gives ${service.id} to ${subject.name}`, isCalled);
  const ports = view.allowedPorts(subject, service);
  if (ports.length === 0) return no(`the grants allow no port of ${service.id}`, isCalled);
  const { protocol, port } = question;
  if (protocol !== undefined && !entry.protocols.includes(protocol)) {
    return no(`${service.id} is ${entry.protocols.join(', ')}, not ${protocol}`);
  }
  if (port !== undefined && protocol !== 'icmp' && !includesPort(ports, port)) {
    return no(`port ${port} is not among the allowed ports ${formatPorts(ports)}`);
  }
  const numbers = grants.map((grant) => view.document.grants.indexOf(grant) + 1).join(', ');
  const served =
    entry.connectors.length === 0 ? 'no connector serves it yet' : `served by ${entry.connectors.join(', ')}`;
  const { path } = entry;
  const held =
    path === undefined
      ? []
      : [path === 'relay' ? 'its packets take the relay only' : 'its packets take direct links only'];
  return {
    allowed: true,
    reasons: [
      `grant ${numbers} gives ${service.id}, ports ${formatPorts(ports)}, to ${subject.name}`,
      isCalled,
      served,
      ...held,
    ],
  };
}

/** One sentence for each test of the document that fails. */
export function runTests(view: PolicyView): string[] {
  return view.document.tests.flatMap((test, i) => {
    const { allowed, reasons } = explain(view, subjectOf(test), test);
    if (allowed === (test.expect === 'allow')) return [];
    return [`test ${i + 1}: ${test.from} → ${test.service} should be ${test.expect}, but: ${reasons[0]}`];
  });
}

/** A stand-in: an agent of that name without groups, a nameless member of that group, or a nameless stranger. */
function subjectOf(test: PolicyTest): Subject {
  const [kind, name = ''] = test.from.split(':');
  return {
    role: 'agent',
    // No label is empty: a nameless agent matches no `agent:` grant and no member list.
    name: kind === 'agent' ? name : '',
    groups: kind === 'group' ? [name] : [],
    invitationId: '',
  };
}
