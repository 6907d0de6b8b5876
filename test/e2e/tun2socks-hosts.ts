/**
 * The two hosts of tests of tun2socks:
 *
 *   user (programs, tun2socks) 10.1.0.1, fd01::1 ─── net (servers) 10.1.0.2, fd01::2; 10.50.0.1 and fd50::1 behind it
 */
import type { Host } from '../lab/host.js';
import type { Lab } from '../lab/lab.js';

/** @param resolver the name server of `user` */
export function tun2socksHosts(lab: Lab, resolver: string): { readonly user: Host; readonly net: Host } {
  const user = lab.host('user');
  const net = lab.router('net');
  lab.link(
    { host: user, addresses: ['10.1.0.1/24', 'fd01::1/64'] },
    { host: net, addresses: ['10.1.0.2/24', 'fd01::2/64'] },
  );
  for (const address of ['10.50.0.1/32', 'fd50::1/128']) net.ip('address', 'add', address, 'dev', 'lo');
  user.ip('route', 'add', 'default', 'via', '10.1.0.2');
  user.ip('-6', 'route', 'add', 'default', 'via', 'fd01::2');
  user.resolver(resolver);
  return { user, net };
}
