/** What a configuration of `sallyport tun2socks` holds. */
import * as v from 'valibot';
import { IpAddress, Prefix } from '../base/address.js';
import { toSeconds } from '../base/time.js';
import { DNS_MODES } from '../engine/dns/service.js';
import { STALE_TIME_MAX } from '../engine/dns/stale.js';
import { parseDnsServer } from '../engine/dns/upstream.js';
import { RuleSchema } from '../engine/rules/schema.js';
import { FILTERINGS } from '../engine/settings.js';
import { parseProxyUrl } from '../tun2socks/proxy-url.js';
import { accepts, cidr, common, deviceName, flag, text } from './config-parts.js';

const PRESETS = ['mobile', 'server'] as const;
const PROXY = 'must be socks5://[USER:PASSWORD@]HOST[:PORT], socks5h://… or http://…';
const INNER = 'must be an address with its prefix length, private or shared, for example 10.83.0.1/30';
const ADDRESS = 'must be an IP address';
const MTU = 'must be a whole number from 1280 to 65535';
const MARK = 'must be a whole number from 1 to 4294967295';
const DNS_SERVER =
  'must be a name server: 192.0.2.53, [2001:db8::53]:5353, tcp://192.0.2.53, tls://192.0.2.53#dns.example or https://192.0.2.53/dns-query#dns.example';
const STALE_SECONDS_MAX = toSeconds(STALE_TIME_MAX);
const STALE = `must be a number of seconds from 0 to ${STALE_SECONDS_MAX}`;
const PREFIXES = 'must be a list of prefixes, for example ["10.0.0.0/8"]';

/** RFC 1918, RFC 6598, RFC 4193: what an inner address may be. */
const INNER_RANGES = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'].map(
  (text) => Prefix.parse(text)!,
);

const inner = v.pipe(
  v.string(INNER),
  v.check((text) => {
    const ip = IpAddress.parse(text.split('/')[0]!);
    return ip !== undefined && Prefix.parse(text) !== undefined && INNER_RANGES.some((range) => range.contains(ip));
  }, INNER),
);
const ip = v.pipe(
  v.string(ADDRESS),
  v.check((text) => IpAddress.parse(text) !== undefined, ADDRESS),
);

export const Tun2socksConfig = v.strictObject({
  ...common,
  tun: v.optional(v.pipe(deviceName, v.description('Name of the TUN device.')), 'sallyport0'),
  addresses: v.optional(
    v.pipe(
      v.array(inner, 'must be a list of addresses with prefix length'),
      v.description('Addresses of the device: what programs send from.'),
    ),
    ['10.83.0.1/30', 'fd53:616c:6c79::1/126'],
  ),
  mtu: v.optional(
    v.pipe(
      v.number(MTU),
      v.integer(MTU),
      v.minValue(1280, MTU),
      v.maxValue(65_535, MTU),
      v.description('MTU of the device, bytes.'),
    ),
    1500,
  ),
  preset: v.optional(
    v.pipe(
      v.picklist(PRESETS, 'must be mobile or server'),
      v.description('How much may be used: mobile (128 flows of each kind, 15 MB) or server (8,192).'),
    ),
    'server',
  ),
  direct: v.optional(v.pipe(flag, v.description('Flows leave through sockets of this host.')), false),
  proxy: v.optional(
    v.pipe(
      v.string(PROXY),
      v.check(accepts(parseProxyUrl), PROXY),
      v.description('Flows leave through this SOCKS 5 or HTTP proxy.'),
    ),
  ),
  interface: v.optional(
    v.pipe(deviceName, v.description('Interface that sockets leave by; with routes, that of the default route.')),
  ),
  mark: v.optional(
    v.pipe(
      v.number(MARK),
      v.integer(MARK),
      v.minValue(1, MARK),
      v.maxValue(0xffff_ffff, MARK),
      v.description('Mark (SO_MARK) of sockets, for routing rules of this host’s own.'),
    ),
  ),
  udpFiltering: v.optional(
    v.pipe(
      v.picklist(FILTERINGS, `must be one of ${FILTERINGS.join(', ')}`),
      v.description('Who may send to a program’s UDP port once it has sent something (RFC 4787).'),
    ),
    'endpoint-independent',
  ),
  routes: v.optional(
    v.pipe(flag, v.description('Route everything but the local networks into the device while this runs.')),
    false,
  ),
  include: v.optional(
    v.pipe(v.array(cidr, PREFIXES), v.description('Route these prefixes, instead of everything.')),
    [],
  ),
  exclude: v.optional(v.pipe(v.array(cidr, PREFIXES), v.description('Do not route these prefixes.')), []),
  dns: v.optional(
    v.pipe(v.array(ip, 'must be a list of IP addresses'), v.description('The host’s name servers while this runs.')),
    [],
  ),
  dnsMode: v.optional(
    v.pipe(
      v.picklist(DNS_MODES, `must be one of ${DNS_MODES.join(', ')}`),
      v.description(
        'Which DNS queries are answered here: none, those to the address after the device’s own (forward), all (hijack), all with addresses that stand for names (fake-ip).',
      ),
    ),
    'off',
  ),
  dnsServers: v.optional(
    v.pipe(
      v.array(
        v.pipe(v.string(DNS_SERVER), v.check(accepts(parseDnsServer), DNS_SERVER)),
        'must be a list of name servers',
      ),
      v.description('Whom the resolver asks, in order; the host’s name servers when absent.'),
    ),
    [],
  ),
  dnsStaleSeconds: v.optional(
    v.pipe(
      v.number(STALE),
      v.minValue(0, STALE),
      v.maxValue(STALE_SECONDS_MAX, STALE),
      v.description('For how long after its time an answer is given when no name server answers (RFC 8767).'),
    ),
    0,
  ),
  rules: v.optional(
    v.pipe(
      v.array(RuleSchema, 'must be a list of rules'),
      v.description(
        'Rules about flows; the first that fits decides: ACTION [host=…] [suffix=…] [cidr=…] [port=…] [protocol=…], for reject [with=…], for shape [rate=…] [delay=…] [jitter=…] [loss=…] [per=…].',
      ),
    ),
    [],
  ),
  rulesFile: v.optional(
    v.pipe(text, v.description('File of more rules, one a line, behind those of rules; read again by a reload.')),
  ),
  pcap: v.optional(
    v.pipe(text, v.description('Writes every packet into this file (pcapng), and full ones beside it.')),
  ),
});
export type Tun2socksConfig = v.InferOutput<typeof Tun2socksConfig>;
