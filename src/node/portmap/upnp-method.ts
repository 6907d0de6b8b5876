/**
 * UPnP-IGD at the gateway: the search goes to it alone, and every URL has to lead to it (`tunnel/portmap/upnp`). Answers are bounded in
 * size and time.
 */
import { request as httpRequest } from 'node:http';
import { IpAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import {
  type ActionReply,
  decodeAction,
  decodeDescription,
  decodeSsdpAnswer,
  encodeAction,
  encodeSsdpSearch,
  type GatewayService,
  type GatewayUrl,
  SSDP_PORT,
} from '../../tunnel/portmap/upnp.js';
import { childText, LONGEST_DOCUMENT } from '../../tunnel/portmap/xml.js';
import { askGateway, type Gateway } from './gateway-socket.js';
import type { Lease, MappingMethod } from './methods.js';

const HTTP_TIMEOUT_MS = 2000;
/** UPnP errors (WANIPConnection:2 §2.5): the port is somebody else's; only leases without an end are given. */
const CONFLICT = 718;
const PERMANENT_ONLY = 725;
/** Ports tried when the wanted one is taken. */
const ATTEMPTS = 4;
/** A lease without an end is looked at this often, in seconds, as gateways forget them at a restart. */
const PERMANENT_CHECK = 1800;
const DESCRIPTION = 'sallyport';

export async function findUpnp(gateway: Gateway, entropy: Entropy): Promise<MappingMethod | undefined> {
  const host = gateway.address.toString();
  const search = new TextEncoder().encode(encodeSsdpSearch(host));
  const location = await askGateway(gateway, SSDP_PORT, search, (bytes) =>
    decodeSsdpAnswer(new TextDecoder('latin1').decode(bytes), host),
  );
  if (location === undefined) return undefined;
  const document = await exchange(gateway, location, undefined);
  const service = document === undefined ? undefined : decodeDescription(document, host, location);
  if (service === undefined) return undefined;
  const publicAddress = await externalAddress(gateway, service);
  if (publicAddress === undefined) return undefined;
  return {
    protocol: 'upnp',
    publicAddress,
    map: async (insidePort, wanted, lifetime) => {
      const lease = await add(gateway, service, insidePort, wanted, lifetime, entropy);
      const address = lease === undefined ? undefined : await externalAddress(gateway, service);
      return lease && address && { ...lease, publicAddress: address };
    },
    unmap: async (_insidePort, lease) => {
      await act(gateway, service, 'DeletePortMapping', {
        NewRemoteHost: '',
        NewExternalPort: String(lease.publicPort),
        NewProtocol: 'UDP',
      });
    },
  };
}

async function externalAddress(gateway: Gateway, service: GatewayService): Promise<IpAddress | undefined> {
  const reply = await act(gateway, service, 'GetExternalIPAddress', {});
  const text = reply?.kind === 'done' ? childText(reply.element, 'NewExternalIPAddress') : undefined;
  const address = text === undefined ? undefined : IpAddress.parse(text);
  return address?.isV4 === true && address.w3 !== 0 ? address : undefined;
}

async function add(
  gateway: Gateway,
  service: GatewayService,
  insidePort: number,
  wanted: number,
  lifetime: number,
  entropy: Entropy,
): Promise<Omit<Lease, 'publicAddress'> | undefined> {
  let publicPort = wanted;
  let granted = lifetime;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const reply = await act(gateway, service, 'AddPortMapping', {
      NewRemoteHost: '',
      NewExternalPort: String(publicPort),
      NewProtocol: 'UDP',
      NewInternalPort: String(insidePort),
      NewInternalClient: gateway.own.toString(),
      NewEnabled: '1',
      NewPortMappingDescription: DESCRIPTION,
      NewLeaseDuration: String(granted),
    });
    if (reply?.kind === 'done') return { publicPort, lifetime: granted === 0 ? PERMANENT_CHECK : granted };
    if (reply?.code === PERMANENT_ONLY && granted !== 0) granted = 0;
    else if (reply?.code === CONFLICT) publicPort = 1024 + (entropy.uint32() % (65_536 - 1024));
    else return undefined;
  }
  return undefined;
}

async function act(
  gateway: Gateway,
  { type, control }: GatewayService,
  action: string,
  values: Readonly<Record<string, string>>,
): Promise<ActionReply | undefined> {
  const body = encodeAction(type, action, values);
  const document = await exchange(gateway, control, { body, soapAction: `"${type}#${action}"` });
  return document === undefined ? undefined : decodeAction(document, action);
}

/** One request on a connection of its own; undefined: no answer, a late one, or one that is too long. */
function exchange(
  { address, pending }: Gateway,
  { port, path }: GatewayUrl,
  post: { readonly body: string; readonly soapAction: string } | undefined,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const headers =
      post === undefined
        ? {}
        : {
            'content-type': 'text/xml; charset="utf-8"',
            'content-length': Buffer.byteLength(post.body),
            soapaction: post.soapAction,
          };
    const method = post === undefined ? 'GET' : 'POST';
    const request = httpRequest({ host: address.toString(), port, path, method, headers, agent: false });
    const giveUp = (): void => finish(undefined);
    const limit = setTimeout(giveUp, HTTP_TIMEOUT_MS);
    const finish = (document: string | undefined): void => {
      clearTimeout(limit);
      pending.delete(giveUp);
      request.destroy();
      resolve(document);
    };
    pending.add(giveUp);
    request.on('error', giveUp);
    request.on('close', giveUp);
    request.on('response', (response) => {
      let document = '';
      // Redirects are not followed: a gateway that moves its control point is searched for anew.
      if (response.statusCode !== 200 && response.statusCode !== 500) finish(undefined);
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        document += chunk;
        if (document.length > LONGEST_DOCUMENT) finish(undefined);
      });
      response.on('end', () => finish(document));
      response.on('error', giveUp);
    });
    request.end(post?.body);
  });
}
