/**
 * Which autonomous system announces an address, by DNS TXT records in the form of Team Cymru's IP-to-ASN service:
 *
 *   4.3.2.1.origin.asn.cymru.com         "ASN [ASN…] | PREFIX | COUNTRY | REGISTRY | DATE"
 *   (nibbles).origin6.asn.cymru.com      the same for IPv6
 *   ASn.asn.cymru.com                    "ASN | COUNTRY | REGISTRY | DATE | NAME"
 *
 * Only addresses that somebody may announce are asked about; the others say more about our network than about the path.
 */
import { Resolver } from 'node:dns/promises';
import { type IpAddress, Prefix } from '../base/address.js';
import type { Clock } from '../base/time.js';
import { isPrivate } from './compatible.js';
import { Questions } from './questions.js';
import type { NetworkInfo } from './result.js';

/** Besides the private ones: this host, loopback, link-local, shared (RFC 6598), multicast and reserved. */
const NOT_ANNOUNCED = [
  '0.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/3',
  '::/8',
  'fe80::/10',
  'ff00::/8',
].map((text) => Prefix.parse(text)!);

export const NETWORK_ZONE = 'asn.cymru.com';

/** The text records of a name, each one joined. Rejects when there is none. */
export type TextLookup = (name: string) => Promise<readonly string[]>;

export function systemText(): TextLookup {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  return async (name) => (await resolver.resolveTxt(name)).map((parts) => parts.join(''));
}

export class Networks {
  readonly #zone: string;
  readonly #questions: Questions<readonly string[]>;

  constructor(lookUp: TextLookup, clock: Clock, zone = NETWORK_ZONE) {
    this.#zone = zone;
    this.#questions = new Questions({ ask: lookUp, clock });
  }

  /** Undefined when nobody announces it or nobody answers; never rejects. */
  async of(ip: IpAddress): Promise<NetworkInfo | undefined> {
    if (isPrivate(ip) || NOT_ANNOUNCED.some((prefix) => prefix.contains(ip))) return undefined;
    const records = await this.#questions.answer(`${originName(ip)}.${this.#zone}`);
    const origin = records?.map(parseOrigin).find((one) => one !== undefined);
    if (origin?.asn === undefined) return origin;
    const described = await this.#questions.answer(`AS${origin.asn}.${this.#zone}`);
    const name = described?.map(parseName).find((one) => one !== undefined);
    return name === undefined ? origin : { ...origin, name };
  }
}

/** `4.3.2.1.origin`, or the 32 nibbles of an IPv6 address in reverse and `origin6`. */
export function originName(ip: IpAddress): string {
  const bytes = [...ip.toBytes()].reverse();
  if (ip.isV4) return `${bytes.join('.')}.origin`;
  return `${bytes.map((byte) => `${(byte & 15).toString(16)}.${(byte >>> 4).toString(16)}`).join('.')}.origin6`;
}

/** Of several origins the first. Undefined when the record is of another form. */
export function parseOrigin(record: string): NetworkInfo | undefined {
  const [origins, prefix, country] = fields(record);
  const asn = /^(\d{1,10})(?: |$)/.exec(origins ?? '')?.[1];
  if (asn === undefined || Number(asn) > 0xffff_ffff || Prefix.parse(prefix ?? '') === undefined) return undefined;
  return { asn: Number(asn), prefix: prefix!, ...(/^[A-Z]{2}$/.test(country ?? '') && { country: country! }) };
}

/** The short name in front of ` - Long Name` or `, CC`. */
export function parseName(record: string): string | undefined {
  const name = fields(record)[4]?.replace(/, [A-Z]{2}$/, '');
  return name === undefined || name === '' ? undefined : name.split(' - ', 1)[0]!;
}

function fields(record: string): string[] {
  return record.split('|').map((field) => field.trim());
}
