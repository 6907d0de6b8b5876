/**
 * UPnP Internet Gateway Device, the texts: SSDP's search and its answer, the device's description, and SOAP actions.
 *
 *   M-SEARCH ─UDP 1900─► gateway ─► HTTP/1.1 200 · LOCATION ─► description ─► service type, control URL ─► SOAP actions
 *
 * UPnP Device Architecture 1.1 §1.3.2 (a search may go to one device), §3; WANIPConnection:1 and :2, WANPPPConnection:1.
 */
import { childText, elementsNamed, escapeXml, parseXml, type XmlElement } from './xml.js';

export const SSDP_PORT = 1900;
/** Longest answer to a search that is read, in bytes. */
const LONGEST_ANSWER = 4096;
const GATEWAY_DEVICE = 'urn:schemas-upnp-org:device:InternetGatewayDevice:1';
/** Best first. */
const SERVICES: readonly string[] = [
  'urn:schemas-upnp-org:service:WANIPConnection:2',
  'urn:schemas-upnp-org:service:WANIPConnection:1',
  'urn:schemas-upnp-org:service:WANPPPConnection:1',
];

/** @param gateway IPv4 address that the search goes to. */
export function encodeSsdpSearch(gateway: string): string {
  return [
    'M-SEARCH * HTTP/1.1',
    `HOST: ${gateway}:${SSDP_PORT}`,
    'MAN: "ssdp:discover"',
    'MX: 1',
    `ST: ${GATEWAY_DEVICE}`,
    '',
    '',
  ].join('\r\n');
}

/** A place on the gateway: http only, without a name to be looked up, without user, query of the port in range. */
export interface GatewayUrl {
  readonly port: number;
  /** Begins with a slash. */
  readonly path: string;
}

/** Where the description is, if the answer names a place on `gateway` itself. */
export function decodeSsdpAnswer(text: string, gateway: string): GatewayUrl | undefined {
  if (text.length > LONGEST_ANSWER || !/^HTTP\/1\.[01] 200(?: |\r?\n)/.test(text)) return undefined;
  const location = /^location:[ \t]*(\S+)[ \t]*\r?$/im.exec(text)?.[1];
  return location === undefined ? undefined : parseGatewayUrl(location, gateway);
}

/** Undefined when it leads anywhere but to `gateway`. */
export function parseGatewayUrl(url: string, gateway: string): GatewayUrl | undefined {
  const match = /^http:\/\/([\d.]{7,15})(?::(\d{1,5}))?(\/[\x21-\x7e]{0,500})?$/.exec(url);
  if (match === null || match[1] !== gateway) return undefined;
  const port = match[2] === undefined ? 80 : Number(match[2]);
  return port === 0 || port > 65_535 ? undefined : { port, path: match[3] ?? '/' };
}

export interface GatewayService {
  readonly type: string;
  readonly control: GatewayUrl;
}

/** The service that maps ports, by the gateway's description at `location`. */
export function decodeDescription(document: string, gateway: string, location: GatewayUrl): GatewayService | undefined {
  const root = parseXml(document);
  if (root === undefined) return undefined;
  const base = elementsNamed(root, 'URLBase')[0]?.text ?? '';
  const services = elementsNamed(root, 'service');
  for (const type of SERVICES) {
    for (const service of services) {
      if (childText(service, 'serviceType') !== type) continue;
      const control = resolve(childText(service, 'controlURL') ?? '', base, gateway, location);
      if (control !== undefined) return { type, control };
    }
  }
  return undefined;
}

function resolve(url: string, base: string, gateway: string, location: GatewayUrl): GatewayUrl | undefined {
  if (url.startsWith('http:')) return parseGatewayUrl(url, gateway);
  const origin = base === '' ? location : parseGatewayUrl(base, gateway);
  if (origin === undefined || !/^[\x21-\x7e]{1,500}$/.test(url) || url.startsWith('//')) return undefined;
  const folder = origin.path.slice(0, origin.path.lastIndexOf('/') + 1);
  return { port: origin.port, path: url.startsWith('/') ? url : `${folder}${url}` };
}

/** The body of a SOAP action. */
export function encodeAction(type: string, action: string, values: Readonly<Record<string, string>>): string {
  const fields = Object.entries(values).map(([name, value]) => `<${name}>${escapeXml(value)}</${name}>`);
  return [
    '<?xml version="1.0"?>',
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/">',
    `<s:Body><u:${action} xmlns:u="${type}">${fields.join('')}</u:${action}></s:Body></s:Envelope>`,
  ].join('\n');
}

export type ActionReply =
  | { readonly kind: 'done'; readonly element: XmlElement }
  /** UPnPError's code; 0 where it says none. */
  | { readonly kind: 'refused'; readonly code: number };

/** Undefined when it is neither the answer to `action` nor a fault. */
export function decodeAction(document: string, action: string): ActionReply | undefined {
  const root = parseXml(document);
  if (root?.name !== 'Envelope') return undefined;
  const [done] = elementsNamed(root, `${action}Response`);
  if (done !== undefined) return { kind: 'done', element: done };
  if (elementsNamed(root, 'Fault').length === 0) return undefined;
  const code = Number(elementsNamed(root, 'errorCode')[0]?.text ?? '0');
  return { kind: 'refused', code: Number.isInteger(code) ? code : 0 };
}
