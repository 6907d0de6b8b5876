/** Everything that can be measured, in the order of the table. */
import type { Subject } from '../subject.js';
import { Nebula } from './nebula.js';
import { none } from './none.js';
import { Openvpn } from './openvpn.js';
import { Sallyport } from './sallyport.js';
import { Tinc } from './tinc.js';
import { Boringtun, WireguardGo } from './wireguard.js';

export const SUBJECTS: readonly Subject[] = [
  none,
  new WireguardGo(),
  new Boringtun(),
  new Openvpn(false),
  new Openvpn(true),
  new Tinc(),
  new Nebula(),
  new Sallyport(),
  new Sallyport('direct'),
  new Sallyport('kernel'),
];
