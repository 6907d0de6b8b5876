/** A node's relays, wired to what both roles do alike with what these tell. */
import type { Entropy } from '../base/entropy.js';
import type { WallTime } from '../base/time.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import type { Punching } from './punching.js';
import { type RelayEvent, Relays, type RelaysOwner, type RelaysParts } from './relays.js';
import type { Underlay } from './underlay.js';

/** What a role does by itself. */
type RelaysRole = Pick<RelaysOwner, 'onRelayReady' | 'onRelayLost' | 'onRelayMessage' | 'isRelayWanted' | 'isUsed'>;

/** What both roles' cores are made with. */
interface NodeParts {
  readonly relayEndpoint: QuicEndpoint;
  readonly entropy: Entropy;
  readonly software: string;
  readonly proof: unknown;
  readonly wall: () => WallTime;
  /** Names of the network's relays, best known first. */
  readonly relays: readonly string[];
  readonly onEvent: (event: RelayEvent) => void;
  /** The relay's name may be looked up anew. */
  readonly onRelayAttempt: (relay: string) => void;
}

export interface MakeRelaysParts {
  readonly role: RelaysParts['role'];
  readonly network: string;
  readonly underlay: Underlay;
  readonly punching: Punching;
  /** Hears of everything after it has been told as an event. */
  readonly owner: RelaysRole;
}

export function makeRelays(node: NodeParts, { role, network, underlay, punching, owner }: MakeRelaysParts): Relays {
  const { onEvent } = node;
  const relays: Relays = new Relays(
    {
      endpoint: node.relayEndpoint,
      underlay,
      entropy: node.entropy,
      role,
      network,
      software: node.software,
      proof: () => node.proof,
      wall: node.wall,
      owner: {
        onRelayReady: (now, relay) => {
          onEvent({ kind: 'relay-ready', relay: relay.name, over: relay.isOverTcp ? 'tcp' : 'udp' });
          if (relay === relays.home) punching.reflexive.ask(now);
          owner.onRelayReady(now, relay);
        },
        onRelayLost: (now, relay, reason) => {
          onEvent({ kind: 'relay-lost', relay: relay.name, reason });
          owner.onRelayLost(now, relay, reason);
        },
        onRelayMessage: (now, relay, message) => {
          if (message.type === 'drain')
            onEvent({ kind: 'relay-drains', relay: relay.name, seconds: message.deadline / 1000 });
          owner.onRelayMessage(now, relay, message);
        },
        onObserved: (now, address) => punching.setObserved(now, address),
        onRelayAttempt: (relay) => node.onRelayAttempt(relay.name),
        onHome: (now, relay, reason) => {
          if (relays.members.length === 1) return;
          onEvent({ kind: 'relay-home', relay: relay?.name, reason });
          punching.reflexive.ask(now);
        },
        isRelayWanted: () => owner.isRelayWanted(),
        isUsed: (relay) => owner.isUsed(relay),
      },
    },
    node.relays,
  );
  return relays;
}
