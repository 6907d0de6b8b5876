/**
 * What is legal in a policy document but probably not meant: numbered findings, each with what to do.
 *
 *   PL01 overlapping prefixes          PL05 expired or about to         PL09 prefix covers the network's own addresses
 *   PL02 service without connector     PL06 service nobody may use      PL10 a test fails
 *   PL03 grant to an unknown service   PL07 everybody may use all       PL11 grant whose ports never match
 *   PL04 grant to an unknown group     PL08 same destinations twice
 */
import { Prefix } from '../base/address.js';
import type { WallTime } from '../base/time.js';
import { scale, wallLater } from '../base/time.js';
import { OVERLAY_RANGE_V4, POLICY_WARNING, type PolicyDocument, SERVICE_RANGE_V4 } from './document.js';
import { runTests } from './explain.js';
import { intersect, portRanges } from './ranges.js';
import { type CompiledService, compile, type PolicyView } from './view.js';

export type Severity = 'error' | 'warning';

export interface Finding {
  readonly code: string;
  readonly severity: Severity;
  readonly message: string;
}

export interface LintOptions {
  readonly wall: WallTime;
  /** Groups that invitations give; with them unknown groups can be told from those. */
  readonly knownGroups?: ReadonlySet<string>;
}

/** Findings in the order of their codes. */
export function lint(document: PolicyDocument, options: LintOptions): Finding[] {
  const view = compile(document);
  const findings = [
    ...prefixFindings(view),
    ...serviceFindings(view),
    ...grantFindings(view, options.knownGroups),
    ...expiryFindings(document, options.wall),
    ...runTests(view).flatMap((failure) => finding('PL10', 'error', failure)),
  ];
  return findings.sort((a, b) => (a.code < b.code ? -1 : a.code > b.code ? 1 : 0));
}

function prefixFindings({ services, document }: PolicyView): Finding[] {
  const found: Finding[] = [];
  const own = [SERVICE_RANGE_V4, OVERLAY_RANGE_V4, Prefix.parse(document.ula)!];
  const real = services.filter((service) => service.entry.target === 'cidr');
  for (const [i, a] of real.entries()) {
    const prefix = a.prefixes[0]!;
    for (const range of own.filter((one) => one.overlaps(prefix))) {
      found.push(...finding('PL09', 'warning', `${a.id}: ${prefix} overlaps ${range}, the network’s own addresses`));
    }
    for (const b of real.slice(i + 1)) {
      const other = b.prefixes[0]!;
      if (prefix.toString() === other.toString()) {
        if ((a.protocols & b.protocols) !== 0 && intersect(a.ports, b.ports).length > 0) {
          found.push(...finding('PL08', 'warning', `${a.id} and ${b.id} have the same destinations; ${a.id} wins`));
        }
      } else if (prefix.overlaps(other)) {
        const [inner, outer] = prefix.length > other.length ? [a, b] : [b, a];
        found.push(
          ...finding(
            'PL01',
            'warning',
            `${inner.id} lies inside ${outer.id}: its addresses need a grant to ${inner.id}`,
          ),
        );
      }
    }
  }
  return found;
}

function serviceFindings({ services, document }: PolicyView): Finding[] {
  return services.flatMap((service) => [
    ...finding('PL02', 'warning', `${service.id} has no connector`, service.entry.connectors.length === 0),
    ...finding(
      'PL06',
      'warning',
      `nobody may use ${service.id}: no grant names it`,
      !document.grants.some((grant) => grant.to.includes(service.id) || grant.to.includes('*')),
    ),
  ]);
}

function grantFindings(view: PolicyView, knownGroups: ReadonlySet<string> | undefined): Finding[] {
  const { grants, groups } = view.document;
  const known = new Set([...(knownGroups ?? []), ...Object.keys(groups)]);
  return grants.flatMap((grant, i) => {
    const where = `grant ${i + 1}`;
    const unknownGroups = grant.from.filter((from) => from.startsWith('group:') && !known.has(from.slice(6)));
    const reached = grant.to.includes('*')
      ? view.services
      : grant.to.flatMap((id) => view.service(id) ?? ([] as CompiledService[]));
    const { ports } = grant;
    return [
      ...grant.to
        .filter((id) => id !== '*' && view.service(id) === undefined)
        .flatMap((id) => finding('PL03', 'error', `${where} names the service ${id}, which does not exist`)),
      ...(knownGroups === undefined ? [] : unknownGroups).flatMap((from) =>
        finding('PL04', 'warning', `${where} names ${from}, which has no member`),
      ),
      ...finding('PL07', 'warning', `${where} lets everybody use everything`, isEverything(grant.from, grant.to)),
      ...(ports === undefined ? [] : reached)
        .filter((service) => intersect(service.ports, portRanges(ports!)).length === 0)
        .flatMap((service) => finding('PL11', 'warning', `${where} allows no port of ${service.id}`)),
    ];
  });
}

function expiryFindings(document: PolicyDocument, wall: WallTime): Finding[] {
  const end = document.notAfter as WallTime;
  const date = new Date(end).toISOString().slice(0, 10);
  if (wall >= end)
    return finding('PL05', 'error', `the policy has expired (${date}): sign it again with "policy apply"`);
  const soon = wall >= wallLater(end, scale(POLICY_WARNING, -1));
  return finding('PL05', 'warning', `the policy expires on ${date}: sign it again with "policy apply"`, soon);
}

function isEverything(from: readonly string[], to: readonly string[]): boolean {
  return from.includes('*') && to.includes('*');
}

function finding(code: string, severity: Severity, message: string, when = true): Finding[] {
  return when ? [{ code, severity, message }] : [];
}
