/** The relays of a network, as join tokens and the signed policy name them. */
import * as v from 'valibot';
import { Label } from './names.js';

/** Relays of one network: a node keeps a place for each, and looks at each for every batch it receives. */
export const MAX_RELAYS = 8;

/** One relay of the network. */
export const RelayContact = v.strictObject({
  /** Name in its certificate: the TLS server name is NAME.relay.NETWORK, whatever host the URL says. */
  name: Label,
  /** HOST:PORT of its QUIC (UDP) listener. */
  quic: v.pipe(v.string(), v.regex(/^(?:\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}$/, 'must be HOST:PORT'), v.maxLength(300)),
  /** Base URL of its control listener (enrolment, TCP fallback). */
  control: v.pipe(v.string(), v.regex(/^https:\/\/[^\s/]+$/, 'must be https://HOST:PORT'), v.maxLength(300)),
});
export type RelayContact = v.InferOutput<typeof RelayContact>;

/** The relays of a network, names differing. */
export const RelayContacts = v.pipe(
  v.array(RelayContact),
  v.minLength(1),
  v.maxLength(MAX_RELAYS),
  v.check((list) => new Set(list.map(({ name }) => name)).size === list.length, 'names a relay twice'),
);
