/** What `tun2socks` makes of its options about names, rules, the resolver and captures, inside the packet thread. */
import { IpAddress } from '../base/address.js';
import type { Crypto } from '../base/crypto.js';
import type { Entropy } from '../base/entropy.js';
import { later, Millis, Seconds } from '../base/time.js';
import type { Dialer } from '../engine/dialer.js';
import { FakeIpPool } from '../engine/dns/fake-ip.js';
import { NamedDialer } from '../engine/dns/named-dialer.js';
import type { DnsMode } from '../engine/dns/service.js';
import { parseDnsServer } from '../engine/dns/upstream.js';
import type { EngineHooks } from '../engine/hooks.js';
import { parseRule } from '../engine/rules/rule.js';
import { RuleSet } from '../engine/rules/rule-set.js';
import { Capture } from '../engine/taps/capture.js';
import { Traffic } from '../engine/traffic.js';
import { RotatingFiles } from '../os/capture-files.js';
import type { Reactor, TlsClient } from '../os/io.js';

/** Texts, because they cross from the main thread. */
export interface TrafficOptions {
  readonly dnsMode: DnsMode;
  readonly dnsServers: readonly string[];
  /** Addresses inside at which queries are answered. */
  readonly dnsAddresses: readonly string[];
  readonly dnsStaleSeconds: number;
  readonly rules: readonly string[];
  readonly pcap: string | undefined;
}

/** Bytes of one capture file, and how many full ones are kept beside it: half a gigabyte in all. */
const CAPTURE_BYTES = 100_000_000;
const CAPTURE_FILES = 4;
/** A capture is at most this far behind. */
const CAPTURE_EVERY = Millis(200);

export interface TrafficSetup {
  readonly traffic: Traffic;
  /** To dial by: behind fake addresses, where there are any. */
  readonly dialer: Dialer;
  readonly hooks: EngineHooks;
  readonly capture: Capture | undefined;
}

/** @throws SallyportError DNS_SERVER, RULE, RULES_MANY (caller), CAPTURE_FILE (environment). */
export function setUpTraffic(
  options: TrafficOptions,
  device: string,
  dialer: Dialer,
  reactor: Reactor,
  entropy: Entropy,
  crypto: Crypto,
  tls: TlsClient,
): TrafficSetup {
  const { dnsMode, dnsServers, dnsAddresses, dnsStaleSeconds, rules, pcap } = options;
  const pool = dnsMode === 'fake-ip' ? new FakeIpPool() : undefined;
  const traffic = new Traffic({
    reactor,
    dialer,
    entropy,
    crypto,
    rules: new RuleSet(rules.map(parseRule)),
    dns: {
      mode: dnsMode,
      servers: dnsServers.map(parseDnsServer),
      tls,
      staleTime: Seconds(dnsStaleSeconds),
      addresses: dnsAddresses.map((text) => IpAddress.parse(text)!),
      ...(pool === undefined ? {} : { pool }),
    },
  });
  const capture = pcap === undefined ? undefined : startCapture(pcap, device, reactor);
  return {
    traffic,
    dialer: pool === undefined ? dialer : new NamedDialer(reactor, dialer, pool, () => traffic.resolver!),
    hooks:
      capture === undefined
        ? {}
        : {
            onPacket: (toEngine, bytes, offset, length) => {
              const label = traffic.labelOf(toEngine, bytes, offset, length);
              capture.add(reactor.wall(), toEngine, bytes, offset, length, label);
            },
          },
    capture,
  };
}

function startCapture(file: string, device: string, reactor: Reactor): Capture {
  const capture = new Capture({ files: new RotatingFiles(file, CAPTURE_FILES), device, fileBytes: CAPTURE_BYTES });
  const again = (): void => {
    capture.flush();
    reactor.at(later(reactor.now(), CAPTURE_EVERY), again);
  };
  again();
  return capture;
}
