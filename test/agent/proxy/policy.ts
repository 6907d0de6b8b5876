/** A small policy and its agent, for the proxy's tests. */
import type { ProxySubject } from '../../../src/agent/proxy/resolve.js';
import { IpAddress } from '../../../src/base/address.js';
import { parseDocument } from '../../../src/policy/document.js';
import { compile, type PolicyView } from '../../../src/policy/view.js';

const service = (id: string, n: number, rest: object): object => ({
  id,
  protocols: ['tcp'],
  ports: [[5432, 5432]],
  target: 'single',
  virtualIp4: `10.100.0.${n}`,
  virtualIp6: `fd12:3456:789a::${n}`,
  connectors: ['box'],
  ...rest,
});

export const view: PolicyView = compile(
  parseDocument({
    network: 'acme',
    version: 1,
    notAfter: 4_000_000_000_000,
    ula: 'fd12:3456:789a::/48',
    services: [
      service('db', 1, {}),
      service('web', 2, { ports: 'any', target: 'host' }),
      service('names', 3, { protocols: ['udp'], ports: [[53, 53]] }),
      service('secret', 4, {}),
      {
        id: 'lan',
        protocols: ['tcp'],
        ports: [
          [22, 22],
          [8000, 8100],
        ],
        target: 'cidr',
        prefix: '10.0.0.0/24',
        connectors: ['box'],
      },
      { id: 'vault', protocols: ['tcp'], ports: 'any', target: 'cidr', prefix: '10.0.0.5/32', connectors: ['box'] },
    ],
    grants: [
      { from: ['group:ops'], to: ['db', 'web', 'names', 'lan'] },
      { from: ['agent:limited'], to: ['web'], ports: [[443, 443]] },
    ],
    revocations: ['f'.repeat(32)],
  }),
);

export function subject(
  name = 'laptop',
  groups: readonly string[] = ['ops'],
  rest: Partial<ProxySubject> = {},
): ProxySubject {
  return {
    role: 'agent',
    name,
    groups,
    invitationId: '0'.repeat(32),
    overlay4: IpAddress.parse('100.64.0.2')!,
    overlay6: IpAddress.parse('fd12:3456:789a::9')!,
    ...rest,
  };
}
