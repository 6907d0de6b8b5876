/**
 * What a configuration of each role holds: its keys, what each may be, its default, and one line that says what it is for.
 * The published JSON Schema, the environment's variables and every message about a wrong value come from here.
 */
import * as v from 'valibot';
import { parseForward } from '../agent/proxy/forward.js';
import { SocketAddress } from '../base/address.js';
import { parseBackend } from '../policy/backend.js';
import { PATH_CHOICES } from '../tunnel/links/path-choice.js';
import { SERVICE_ID } from '../tunnel/service-id.js';
import { accepts, cidr, common, deviceName, flag, text } from './config-parts.js';

const MODES = ['auto', 'tun', 'proxy'] as const;
const CONNECTOR_MODES = ['engine', 'kernel'] as const;

const ADDRESS = 'must be ADDRESS:PORT, for example 127.0.0.1:1080 or [::1]:1080';
const ADDRESS_OR_OFF = `${ADDRESS}, or off`;
const ADDRESSES = 'must be a list of ADDRESS:PORT';
const PORT = 'must be a whole number from 0 to 65535';
const DRAIN = 'must be a number of seconds from 0 to 3600';
const RATE = 'must be a whole number per second, 0 = no limit';
const FORWARD = 'must be [tcp://|udp://]LISTEN=SERVICE[:PORT], for example 127.0.0.1:8080=web:80';
const SERVICE = 'must be a service id of 1–63 characters: a–z, 0–9 and - (not first or last)';
const URL = 'must be PROTO://HOST[:PORT] or PROTO://PREFIX[:PORT], for example tcp://10.0.0.5:80';
const PASSWORD = 'must be a password of 1–255 bytes';
const USER = 'must be a user name of 1–255 bytes without a colon';

const bytesUpTo255 = (text: string): boolean => text !== '' && Buffer.byteLength(text) <= 255;

const address = v.pipe(v.string(ADDRESS), v.check(accepts(SocketAddress.parse), ADDRESS));
const port = v.pipe(v.number(PORT), v.integer(PORT), v.minValue(0, PORT), v.maxValue(65535, PORT));
const rate = v.pipe(v.number(RATE), v.integer(RATE), v.minValue(0, RATE), v.maxValue(Number.MAX_SAFE_INTEGER, RATE));
const listener = v.pipe(
  v.string(ADDRESS_OR_OFF),
  v.check((one) => one === 'off' || SocketAddress.parse(one) !== undefined, ADDRESS_OR_OFF),
);
const forward = v.pipe(v.string(FORWARD), v.check(accepts(parseForward), FORWARD));
const serviceId = v.pipe(v.string(SERVICE), v.regex(SERVICE_ID, SERVICE));
const serviceUrl = v.pipe(v.string(URL), v.check(accepts(parseBackend), URL));
const user = v.pipe(
  v.string(USER),
  v.check((name) => bytesUpTo255(name) && !name.includes(':'), USER),
);
const password = v.pipe(v.string(PASSWORD), v.check(bytesUpTo255, PASSWORD));

const joining = {
  join: v.optional(v.pipe(text, v.description('The join token, or - for standard input.'))),
  joinFile: v.optional(v.pipe(text, v.description('File with the join token; read at the first start only.'))),
};
const nodePort = v.optional(v.pipe(port, v.description('Local UDP port; 0 = an ephemeral one.')), 0);

/** About direct links; the same for both nodes. */
const direct = {
  path: v.optional(
    v.pipe(
      v.picklist(PATH_CHOICES, `must be one of ${PATH_CHOICES.join(', ')}`),
      v.description('Which links carry packets: through the relay, direct ones, or auto: direct ones when there are.'),
    ),
    'auto',
  ),
  relayTcp: v.optional(
    v.pipe(
      v.picklist(['auto', 'never'], 'must be auto or never'),
      v.description('The relay over TCP: auto: while UDP does not reach it; never.'),
    ),
    'auto',
  ),
  hideHostCandidates: v.optional(
    v.pipe(flag, v.description('Do not tell peers the addresses of this host’s interfaces.')),
    false,
  ),
  peerPrefixes: v.optional(
    v.pipe(
      v.array(cidr, 'must be a list of prefixes, for example ["10.8.0.0/16"]'),
      v.description('Private prefixes behind the default route where peers may be.'),
    ),
    [],
  ),
  advertise: v.optional(
    v.pipe(
      v.array(address, ADDRESSES),
      v.description('Where peers reach this node besides, for example through a forwarded port.'),
    ),
    [],
  ),
  portGuessing: v.optional(
    v.pipe(
      flag,
      v.description(
        'Guesses ports where nothing else gets through a symmetric NAT: 256 sockets or 1,000 packets, once.',
      ),
    ),
    true,
  ),
  portMapping: v.optional(
    v.pipe(
      flag,
      v.description('Asks the gateway for a public UDP port (PCP, NAT-PMP or UPnP) while direct links are allowed.'),
    ),
    true,
  ),
};

export const RelayConfig = v.strictObject({
  ...common,
  listen: v.optional(
    v.pipe(v.array(address, ADDRESSES), v.description('UDP addresses to listen on, one per address family.')),
    ['0.0.0.0:4433', '[::]:4433'],
  ),
  control: v.optional(v.pipe(address, v.description('TCP address of the enrolment endpoint (HTTPS).')), '0.0.0.0:8443'),
  probePort: v.optional(
    v.pipe(port, v.description('Second UDP port, by which nodes tell what NAT is before them; 0 = none.')),
    4434,
  ),
  allowOperatorKey: v.optional(
    v.pipe(flag, v.description('Start although the operator’s key is readable; for a demo on one machine.')),
    false,
  ),
  drain: v.optional(
    v.pipe(
      v.number(DRAIN),
      v.minValue(0, DRAIN),
      v.maxValue(3600, DRAIN),
      v.description('Seconds that packets may pass for at most after SIGTERM.'),
    ),
    3,
  ),
  channelBytes: v.optional(
    v.pipe(rate, v.description('Most bytes a second in each direction of one channel; 0 = no limit.')),
    0,
  ),
  channelPackets: v.optional(
    v.pipe(rate, v.description('Most packets a second in each direction of one channel; 0 = no limit.')),
    0,
  ),
  agentBytes: v.optional(
    v.pipe(rate, v.description('Most bytes a second from one agent, and to it; 0 = no limit.')),
    0,
  ),
  agentPackets: v.optional(
    v.pipe(rate, v.description('Most packets a second from one agent, and to it; 0 = no limit.')),
    0,
  ),
  connectorBytes: v.optional(
    v.pipe(rate, v.description('Most bytes a second from one connector, and to it; 0 = no limit.')),
    0,
  ),
  connectorPackets: v.optional(
    v.pipe(rate, v.description('Most packets a second from one connector, and to it; 0 = no limit.')),
    0,
  ),
});
export type RelayConfig = v.InferOutput<typeof RelayConfig>;

export const ConnectorConfig = v.strictObject({
  ...common,
  ...joining,
  port: nodePort,
  ...direct,
  mode: v.optional(
    v.pipe(
      v.picklist(CONNECTOR_MODES, `must be one of ${CONNECTOR_MODES.join(', ')}`),
      v.description('engine (flows end in this process) or kernel (as root: the host’s kernel routes them).'),
    ),
    'engine',
  ),
  tun: v.optional(v.pipe(deviceName, v.description('Name of the TUN device of mode kernel.')), 'sallyport1'),
  services: v.optional(
    v.pipe(
      v.record(serviceId, serviceUrl, 'must be an object of service id → URL'),
      v.description('Service id → where it really is; overrides the invitation.'),
    ),
    {},
  ),
});
export type ConnectorConfig = v.InferOutput<typeof ConnectorConfig>;

export const AgentConfig = v.strictObject({
  ...common,
  ...joining,
  port: nodePort,
  ...direct,
  mode: v.optional(
    v.pipe(
      v.picklist(MODES, `must be one of ${MODES.join(', ')}`),
      v.description('tun (a TUN device), proxy (local proxies), or auto: a TUN device when allowed, else proxies.'),
    ),
    'auto',
  ),
  tun: v.optional(v.pipe(deviceName, v.description('Name of the TUN device.')), 'sallyport0'),
  socks: v.optional(v.pipe(listener, v.description('SOCKS 5 proxy of proxy mode; off = none.')), '127.0.0.1:1080'),
  http: v.optional(v.pipe(listener, v.description('HTTP proxy of proxy mode; off = none.')), '127.0.0.1:8118'),
  forwards: v.optional(
    v.pipe(
      v.array(forward, 'must be a list of [tcp://|udp://]LISTEN=SERVICE[:PORT]'),
      v.description('Local ports of proxy mode that stand for one service each.'),
    ),
    [],
  ),
  allow: v.optional(
    v.pipe(
      v.array(cidr, 'must be a list of prefixes, for example ["192.168.1.0/24"]'),
      v.description('Who may use the listeners of proxy mode, besides this machine.'),
    ),
    [],
  ),
  users: v.optional(
    v.pipe(
      v.record(user, password, 'must be an object of user → password'),
      v.description('User → password that the SOCKS and HTTP proxies ask for; only in a file of mode 0600.'),
    ),
    {},
  ),
});
export type AgentConfig = v.InferOutput<typeof AgentConfig>;
