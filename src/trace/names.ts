/** The names of addresses (PTR records and the hosts file), as datadog-traceroute prints them: full names end in a dot. */
import { Resolver } from 'node:dns/promises';
import type { IpAddress } from '../base/address.js';
import type { Clock } from '../base/time.js';
import { Questions } from './questions.js';

/** Longest list taken over: hosting companies have addresses with hundreds of names. */
const MAX_NAMES = 16;

/** Every name of an address, without final dots. Rejects when there is none. */
export type ReverseLookup = (address: string) => Promise<readonly string[]>;

export function systemReverse(): ReverseLookup {
  const resolver = new Resolver({ timeout: 2_000, tries: 2 });
  return (address) => resolver.reverse(address);
}

export class AddressNames {
  readonly #questions: Questions<readonly string[]>;

  constructor(reverse: ReverseLookup, clock: Clock) {
    this.#questions = new Questions({
      clock,
      ask: async (address) => (await reverse(address)).slice(0, MAX_NAMES).map(absolute),
    });
  }

  /** Empty when there is none or nobody answers; never rejects. */
  async of(ip: IpAddress): Promise<readonly string[]> {
    return (await this.#questions.answer(ip.toString())) ?? [];
  }
}

/** A name without a dot is from a hosts file and no domain name. */
function absolute(name: string): string {
  return name.includes('.') && !name.endsWith('.') ? `${name}.` : name;
}
