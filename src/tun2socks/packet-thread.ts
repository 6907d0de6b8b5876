/**
 * The packet thread of `tun2socks`: a TUN device, the engine's core, and the host's sockets, in one loop.
 */
import { SocketAddress } from '../base/address.js';
import { describeError } from '../base/error.js';
import { encodeUtf8 } from '../base/utf8.js';
import { EngineCore } from '../engine/core.js';
import { type Dialer, DirectDialer } from '../engine/dialer.js';
import { HttpDialer } from '../engine/proxies/http-dialer.js';
import { Socks5Dialer } from '../engine/proxies/socks5-dialer.js';
import { parseRule } from '../engine/rules/rule.js';
import { RuleSet } from '../engine/rules/rule-set.js';
import { engineSettings } from '../engine/settings.js';
import { type TakePacket, TunPackets } from '../engine/tun-packets.js';
import { createCrypto } from '../os/crypto.js';
import { SystemEntropy } from '../os/entropy.js';
import { READABLE, type Reactor, type Sockets } from '../os/io.js';
import { deviceDrops } from '../os/linux/device-drops.js';
import { createLinuxSockets } from '../os/linux/linux.js';
import type { EpollReactor } from '../os/linux/reactor.js';
import { servePacketThread } from '../os/packet-thread.js';
import { nodeTls } from '../os/tls-client.js';
import type { Tun2socksProtocol, Tun2socksThreadData, WayOut } from './thread-protocol.js';
import { setUpTraffic } from './traffic.js';

/** Events of flows told to the main thread in one turn. */
const EVENTS_AT_ONCE = 64;
/** Flows that `status` lists: a screen or two, some 50 KB. */
const FLOWS_LISTED = 256;
/** Rounds of libuv after TLS has had something to do. */
const ROUNDS = 8;

await servePacketThread<Tun2socksProtocol, Tun2socksThreadData>((context) => {
  const { data, reactor } = context;
  const path = { device: data.device, mark: data.mark };
  const sockets = createLinuxSockets(path);
  const tun = sockets.tun({ name: data.tun, offload: true });
  let packets: TunPackets | undefined;
  const way = makeDialer(data.way, reactor, sockets);
  const entropy = new SystemEntropy();
  const crypto = createCrypto();
  const tls = nodeTls({ nudge: nudger(reactor) });
  const { traffic, dialer, hooks, capture } = setUpTraffic(data.traffic, tun.name, way, reactor, entropy, crypto, tls);
  const core = new EngineCore({
    reactor,
    dialers: [dialer],
    sink: (drops) => {
      packets = new TunPackets(tun, drops, () => sockets.flushDatagrams());
      return packets;
    },
    settings: engineSettings(data.preset, { mtu: data.mtu, flows: { udpFiltering: data.udpFiltering } }),
    hooks,
    traffic,
    entropy,
    crypto,
    deviceDrops: () => deviceDrops(tun.name),
  });
  const device = packets!;
  /** Rules of which more are to come. */
  let loading: RuleSet | undefined;
  const take: TakePacket = (arena, offset, length, segmentSize, checked) =>
    core.receive(reactor.now(), arena, offset, length, segmentSize, checked);
  reactor.watch(tun.fd, READABLE, () => {
    device.read(take);
    // What other sockets have may take a while.
    sockets.flushDatagrams();
  });
  reactor.onTurn((now) => {
    const next = core.turn(now);
    device.flush();
    sockets.flushDatagrams();
    core.measured(reactor.readClock() - now, reactor.lag);
    if (traffic.events.length > 0) context.emit('flows', traffic.events.take(EVENTS_AT_ONCE));
    return traffic.events.length > 0 ? now : next;
  });
  return {
    requests: {
      status: () => ({
        device: tun.name,
        way: dialer.name,
        flows: { tcp: core.flows.tcp.size, udp: core.flows.udp.size, echo: core.flows.echo.size },
        sendPaused: core.flows.tcp.sendPaused,
        flowList: core.list(FLOWS_LISTED),
        echoAnsweredHere: core.flows.echo.answersHere,
        dns: traffic.resolver && {
          mode: data.traffic.dnsMode,
          cached: traffic.resolver.cached,
          outstanding: traffic.resolver.outstanding,
        },
        rules: traffic.ruleHits,
        capture: capture && {
          packets: capture.packets,
          dropped: capture.dropped,
          failure: capture.failure === undefined ? undefined : describeError(capture.failure),
        },
        metrics: core.snapshot(),
      }),
      path: ({ device: name }) => {
        path.device = name;
        core.pathChanged(true);
        return undefined;
      },
      rules: ({ rules, last }) => {
        const set = loading ?? new RuleSet();
        loading = undefined;
        for (const rule of rules) set.add(parseRule(rule));
        if (last) traffic.setRules(set);
        else loading = set;
        return undefined;
      },
      shutdown: () => {
        core.close();
        device.flush();
        return undefined;
      },
    },
    rest: () => {
      core.flows.stack.pool.store.clear();
      return [];
    },
    close: () => {
      capture?.close();
      tun.close();
    },
  };
});

/** Lets libuv run some rounds: what TLS does takes several callbacks one after the other. */
function nudger(reactor: EpollReactor): () => void {
  let left = 0;
  const again = (): void => {
    reactor.wake();
    if (--left > 0) reactor.at(reactor.now(), again);
  };
  return () => {
    if (left <= 0) reactor.at(reactor.now(), again);
    left = ROUNDS;
    reactor.wake();
  };
}

function makeDialer(way: WayOut, reactor: Reactor, sockets: Sockets): Dialer {
  if (way.kind === 'direct') return new DirectDialer(reactor, sockets, false);
  const proxy = SocketAddress.parse(way.address)!;
  const { user, password = '' } = way;
  if (way.kind === 'http') {
    const basic = user === undefined ? undefined : Buffer.from(`${user}:${password}`).toString('base64');
    return new HttpDialer({ reactor, sockets, proxy, basic });
  }
  const credentials = user === undefined ? undefined : { user: encodeUtf8(user), password: encodeUtf8(password) };
  return new Socks5Dialer({ reactor, sockets, proxy, credentials, takesNames: way.kind === 'socks5h' });
}
