/** Checks of the way to the relay: its name, UDP, the control port over TCP, the clocks, and the NAT before this machine. */
import { SocketAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import { describeError } from '../../base/error.js';
import { formatDuration } from '../../base/text.js';
import { Millis, type WallTime } from '../../base/time.js';
import { controlClock } from '../../identity/control-client.js';
import type { NodeState } from '../../identity/node-state.js';
import { knownRelays } from '../../node/known-relays.js';
import { type FamilyReport, type NetcheckReport, netcheck } from '../../node/netcheck/report.js';
import { resolveHost } from '../../node/relay-name.js';
import { type Finding, fail, ok, skip, warn } from './check.js';

/** Certificates are made a little before their time begins, and tokens live for minutes at least. */
const CLOCK_WARN_MS = 5_000;
const CLOCK_FAIL_MS = 120_000;

interface Contact {
  readonly state: NodeState;
  readonly relay: NodeState['relays'][number];
}

export interface RelayFindings {
  readonly names: Finding;
  readonly udp: Finding;
  readonly tcp: Finding;
  readonly clock: Finding;
  readonly nat: Finding;
}

export async function checkRelays(state: NodeState, entropy: Entropy, wall: () => WallTime): Promise<RelayFindings> {
  const contacts = knownRelays(state);
  const resolved = await Promise.all(contacts.map(async ({ quic }) => ({ quic, ...(await resolveHost(quic)) })));
  const relays = resolved.flatMap(({ addresses }) => addresses.map((text) => SocketAddress.parse(text)!));
  const [report, controls] = await Promise.all([
    netcheck({ relays, entropy, lifetimeSpans: undefined, gateway: undefined, isBackground: false }),
    Promise.all(contacts.map((relay) => lookAt({ state, relay }, wall))),
  ]);
  return {
    names: nameFinding(resolved),
    udp: udpFinding(
      report,
      controls.some(({ problem }) => problem === undefined),
    ),
    tcp: tcpFinding(controls),
    clock: clockFinding(controls),
    nat: natFinding(report),
  };
}

interface Control {
  readonly url: string;
  readonly problem: string | undefined;
  /** By how much this machine's clock is ahead of the relay's, in milliseconds; undefined: not known. */
  readonly ahead: number | undefined;
}

async function lookAt({ state, relay }: Contact, wall: () => WallTime): Promise<Control> {
  try {
    const clock = await controlClock(state, relay);
    return { url: relay.control, problem: undefined, ahead: clock === undefined ? undefined : wall() - clock };
  } catch (error) {
    return { url: relay.control, problem: describeError(error), ahead: undefined };
  }
}

function nameFinding(resolved: readonly { readonly quic: string; readonly problem?: string | undefined }[]): Finding {
  const unknown = resolved.filter(({ problem }) => problem !== undefined);
  if (unknown.length === 0) return ok(resolved.map(({ quic }) => quic).join(', '));
  const evidence = unknown.map(({ quic, problem }) => `${quic}: ${problem}`).join('; ');
  const fix = 'is the name server of this machine reached, and the name right?';
  return unknown.length < resolved.length ? warn(evidence, fix) : fail(evidence, fix);
}

function udpFinding({ udp, relays }: NetcheckReport, isTcpThere: boolean): Finding {
  const answers = relays.filter(({ rttMilliseconds }) => rttMilliseconds !== undefined);
  if (udp) return ok(answers.map((one) => `${one.address} in ${one.rttMilliseconds!.toFixed(1)} ms`).join(', '));
  const evidence = relays.length === 0 ? 'no relay address to ask' : 'no answer to UDP';
  const fix = 'let UDP out to the relay’s ports (4433, 4434); is the relay running?';
  return isTcpThere ? warn(`${evidence}: packets go over TCP`, fix) : fail(evidence, fix);
}

function tcpFinding(controls: readonly Control[]): Finding {
  const bad = controls.filter(({ problem }) => problem !== undefined);
  if (bad.length === 0) return ok(`${controls.map(({ url }) => url).join(', ')}, with the network’s certificate`);
  const evidence = bad.map(({ url, problem }) => `${url}: ${problem}`).join('; ');
  const fix = 'certificates are renewed there, and packets go there where UDP is blocked: let TCP out to it';
  return bad.length < controls.length ? warn(evidence, fix) : fail(evidence, fix);
}

function clockFinding(controls: readonly Control[]): Finding {
  const known = controls.map(({ ahead }) => ahead).filter((ahead) => ahead !== undefined);
  if (known.length === 0) return skip('no relay told its time');
  const ahead = known.reduce((least, one) => (Math.abs(one) < Math.abs(least) ? one : least));
  if (Math.abs(ahead) < CLOCK_WARN_MS) return ok('as the relay’s');
  const evidence = `${formatDuration(Millis(Math.abs(ahead)))} ${ahead > 0 ? 'ahead of' : 'behind'} the relay’s`;
  const fix = 'set the clocks of this machine and of the relay right';
  return Math.abs(ahead) < CLOCK_FAIL_MS ? warn(evidence, fix) : fail(evidence, fix);
}

function natFinding({ udp, ipv4, ipv6 }: NetcheckReport): Finding {
  const families = [ipv4, ipv6].filter((one): one is FamilyReport => one?.works === true);
  if (!udp || families.length === 0) return skip('cannot be told without UDP');
  const named = [
    ...(ipv4?.works === true ? [`IPv4: ${ipv4.name}`] : []),
    ...(ipv6?.works === true ? [`IPv6: ${ipv6.name}`] : []),
  ].join(', ');
  if (families.some(({ ease }) => ease !== 'strict')) return ok(named);
  return warn(
    `${named}: many peers are reached through the relay only`,
    'have the router map a port (UPnP, PCP, NAT-PMP), or forward one and tell it: --advertise',
  );
}
