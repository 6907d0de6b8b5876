/** The protocols by which gateways map ports, as people write them. */
export const PORTMAP_NAMES = { pcp: 'PCP', 'nat-pmp': 'NAT-PMP', upnp: 'UPnP' } as const;
export type PortmapProtocol = keyof typeof PORTMAP_NAMES;
