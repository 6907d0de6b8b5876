/** `netcheck` for people: a verdict, a table of both address families, one of the relays; 80 columns. */
import type { FamilyReport } from '../node/netcheck/report.js';
import { PORTMAP_NAMES } from '../tunnel/portmap/protocols.js';
import type { NatEase } from '../tunnel/punch-plan.js';
import type { NetcheckResult } from './commands/netcheck.js';
import { table } from './table.js';

const VERDICTS: Readonly<Record<NatEase, string>> = {
  open: 'peers get through easily',
  port: 'peers get through unless their NAT is symmetric',
  strict: 'a direct link needs an easier NAT on the other side, else the relay carries',
  blocked: 'UDP does not pass: the relay carries, over TCP',
  unknown: 'what NAT there is cannot be told',
};

const FILTERING = {
  'by-address-at-most': 'by address at most',
  'port-dependent': 'by address and port',
  unknown: 'unknown',
} as const;

export function netcheckText(result: NetcheckResult): string {
  const sections = [verdict(result), families(result)];
  if (result.relays.length > 0) {
    const rows = result.relays.map(({ address, rttMilliseconds }) => [
      address,
      rttMilliseconds === undefined ? 'no answer' : `${rttMilliseconds.toFixed(1)} ms`,
    ]);
    sections.push(table(['RELAY', 'LATENCY'], rows));
  }
  const notes = notesOf(result);
  if (notes.length > 0) sections.push(notes.join('\n'));
  return sections.join('\n\n');
}

function verdict({ udp, ipv4, ipv6 }: NetcheckResult): string {
  if (ipv4 === undefined && ipv6 === undefined) return 'UDP: no way to the relay from this machine';
  if (!udp) return 'UDP: blocked, or the relay does not answer';
  const best = [ipv4, ipv6].filter((one) => one?.works === true).map((one) => one!.ease);
  const order: readonly NatEase[] = ['open', 'port', 'unknown', 'strict', 'blocked'];
  return `UDP: works; ${VERDICTS[order.find((ease) => best.includes(ease))!]}`;
}

function families({ ipv4, ipv6, portMapping }: NetcheckResult): string {
  const rows: [string, (family: FamilyReport) => string][] = [
    ['public address', ({ publicAddress }) => publicAddress ?? '–'],
    ['NAT', ({ name }) => name],
    ['mapping', mappingText],
    ['filtering', ({ filtering }) => FILTERING[filtering]],
    ['keeps the port', ({ preservesPort }) => yesNo(preservesPort)],
    ['hairpin', ({ hairpin }) => yesNo(hairpin)],
  ];
  if (ipv4?.lifetime !== undefined || ipv6?.lifetime !== undefined) {
    rows.push(['idle mapping lives', lifetimeText], ['kept alive every', keepAliveText]);
  }
  const cell = (family: FamilyReport | undefined, show: (family: FamilyReport) => string): string =>
    family === undefined ? 'not here' : show(family);
  const mapping = portMapping === undefined ? 'none' : PORTMAP_NAMES[portMapping.protocol];
  return table(
    ['', 'IPV4', 'IPV6'],
    [...rows.map(([name, show]) => [name, cell(ipv4, show), cell(ipv6, show)]), ['port mapping', mapping, '–']],
  );
}

function mappingText({ mapping, mappingIsSure }: FamilyReport): string {
  const text = mapping.replace('-', ' ');
  return mappingIsSure || mapping === 'unknown' ? text : `${text} *`;
}

function lifetimeText({ lifetime }: FamilyReport): string {
  if (lifetime === undefined) return '–';
  const { atLeast, lessThan } = lifetime;
  return lessThan === undefined ? `${atLeast} s or more` : `${atLeast} to ${lessThan} s`;
}

function keepAliveText({ keepAliveSeconds: every }: FamilyReport): string {
  return every === undefined ? '–' : `${every.relay} s, direct ${every.direct} s`;
}

function yesNo(value: boolean | undefined): string {
  return value === undefined ? '–' : value ? 'yes' : 'no';
}

function notesOf({ ipv4, ipv6, udp, relayHasSecondPort, running }: NetcheckResult): string[] {
  const notes: string[] = [];
  const works = [ipv4, ipv6].filter((one) => one?.works === true);
  if (works.some((one) => !one!.mappingIsSure && one!.mapping === 'endpoint-independent')) {
    notes.push('* as far as one relay address shows; it might depend on the address');
  }
  if (udp && !relayHasSecondPort) notes.push('The relay has no second port: mapping and filtering cannot be told.');
  if (running !== undefined) {
    const { publicAddress, relayState, largestDatagram } = running;
    const seen = publicAddress === undefined ? '' : `, seen at ${publicAddress}`;
    notes.push(`The role that runs here: relay ${relayState}${seen}.`);
    if (largestDatagram !== undefined) notes.push(`Its links carry packets of ${largestDatagram} bytes.`);
  }
  return notes;
}
