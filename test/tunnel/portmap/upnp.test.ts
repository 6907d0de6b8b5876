/** UPnP's texts: what real gateways send, what hostile ones might, and the bounds of the XML that is read. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeAction,
  decodeDescription,
  decodeSsdpAnswer,
  encodeAction,
  encodeSsdpSearch,
  parseGatewayUrl,
} from '../../../src/tunnel/portmap/upnp.js';
import { childText, elementsNamed, escapeXml, LONGEST_DOCUMENT, parseXml } from '../../../src/tunnel/portmap/xml.js';

const GATEWAY = '192.168.1.1';
const LOCATION = { port: 5000, path: '/root/desc.xml' };
const answer = (location: string): string =>
  `HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: upnp:rootdevice\r\nLocation: ${location}\r\nEXT:\r\n\r\n`;
const description = (control: string, type = 'WANIPConnection:1', base = ''): string => `<?xml version="1.0"?>
<!-- a gateway -->
<root xmlns="urn:schemas-upnp-org:device-1-0">${base}<specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/l3</controlURL></service>
<service><serviceType>urn:schemas-upnp-org:service:${type}</serviceType><controlURL>${control}</controlURL><SCPDURL/></service>
</serviceList></device></deviceList></device></root>`;

describe('SSDP', () => {
  it('asks one device', () => {
    expect(encodeSsdpSearch(GATEWAY)).toMatch(/^M-SEARCH \* HTTP\/1\.1\r\nHOST: 192\.168\.1\.1:1900\r\n/);
    expect(encodeSsdpSearch(GATEWAY).endsWith('\r\n\r\n')).toBe(true);
  });

  it('follows a location on the gateway, and no other', () => {
    expect(decodeSsdpAnswer(answer('http://192.168.1.1:5000/root/desc.xml'), GATEWAY)).toEqual(LOCATION);
    expect(decodeSsdpAnswer(answer('http://192.168.1.1/'), GATEWAY)).toEqual({ port: 80, path: '/' });
    for (const elsewhere of [
      'http://192.168.1.2:5000/desc.xml',
      'https://192.168.1.1/desc.xml',
      'http://192.168.1.1@192.168.1.2/',
      'http://gateway.local/desc.xml',
      'http://192.168.1.1:0/',
      'http://192.168.1.1:65536/',
      'http://192.168.1.1.example/',
      'file:///etc/passwd',
    ]) {
      expect(decodeSsdpAnswer(answer(elsewhere), GATEWAY)).toBeUndefined();
    }
    expect(decodeSsdpAnswer(answer('http://192.168.1.1/').replace('200 OK', '404 No'), GATEWAY)).toBeUndefined();
    expect(decodeSsdpAnswer(`${answer('http://192.168.1.1/')}${'x'.repeat(4096)}`, GATEWAY)).toBeUndefined();
    expect(decodeSsdpAnswer('HTTP/1.1 200 OK\r\n\r\n', GATEWAY)).toBeUndefined();
  });

  it('never throws, and never leads away', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (text) => {
        decodeSsdpAnswer(answer(text), GATEWAY);
        decodeSsdpAnswer(text, GATEWAY);
        const url = parseGatewayUrl(`http://${text}`, GATEWAY);
        if (url !== undefined) expect(new URL(`http://${text}`).hostname).toBe(GATEWAY);
      }),
    );
  });
});

describe('the description', () => {
  it.each([
    ['/ctl/IPConn', '/ctl/IPConn'],
    ['ctl/IPConn', '/root/ctl/IPConn'],
    ['http://192.168.1.1:5000/ctl', '/ctl'],
  ])('leads with %s to its control URL', (control, path) => {
    for (const type of ['WANIPConnection:1', 'WANIPConnection:2', 'WANPPPConnection:1']) {
      expect(decodeDescription(description(control, type), GATEWAY, LOCATION)).toEqual({
        type: `urn:schemas-upnp-org:service:${type}`,
        control: { port: 5000, path },
      });
    }
  });

  it('takes a base on the gateway, and nothing that leads elsewhere', () => {
    const based = description('ctl', 'WANIPConnection:1', '<URLBase>http://192.168.1.1:49152/x/</URLBase>');
    expect(decodeDescription(based, GATEWAY, LOCATION)?.control).toEqual({ port: 49152, path: '/x/ctl' });
    for (const control of ['http://10.0.0.1/ctl', '//10.0.0.1/ctl', '', 'a b']) {
      expect(decodeDescription(description(control), GATEWAY, LOCATION)).toBeUndefined();
    }
    const foreign = description('ctl', 'WANIPConnection:1', '<URLBase>http://10.0.0.1/</URLBase>');
    expect(decodeDescription(foreign, GATEWAY, LOCATION)).toBeUndefined();
    expect(decodeDescription(description('/ctl', 'WANCommonInterfaceConfig:1'), GATEWAY, LOCATION)).toBeUndefined();
    expect(decodeDescription('<html><body>Not found</body></html>', GATEWAY, LOCATION)).toBeUndefined();
  });
});

describe('SOAP', () => {
  it('says what it wants, escaped, and reads answers and faults', () => {
    const type = 'urn:schemas-upnp-org:service:WANIPConnection:1';
    const body = encodeAction(type, 'AddPortMapping', { NewPortMappingDescription: `<&"'>` });
    const root = parseXml(body.replace(/ s:encodingStyle="[^"]*"/, ''))!;
    expect(childText(elementsNamed(root, 'AddPortMapping')[0]!, 'NewPortMappingDescription')).toBe(`<&"'>`);
    const envelope = (inner: string): string =>
      `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>${inner}</s:Body></s:Envelope>`;
    const done = decodeAction(
      envelope(
        '<u:GetExternalIPAddressResponse xmlns:u="x"><NewExternalIPAddress>203.0.113.7</NewExternalIPAddress></u:GetExternalIPAddressResponse>',
      ),
      'GetExternalIPAddress',
    );
    expect(done?.kind === 'done' && childText(done.element, 'NewExternalIPAddress')).toBe('203.0.113.7');
    const fault = envelope(
      '<s:Fault><faultcode>s:Client</faultcode><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></s:Fault>',
    );
    expect(decodeAction(fault, 'AddPortMapping')).toEqual({ kind: 'refused', code: 718 });
    expect(decodeAction(envelope('<s:Fault/>'), 'AddPortMapping')).toEqual({ kind: 'refused', code: 0 });
    expect(decodeAction(envelope(''), 'AddPortMapping')).toBeUndefined();
  });
});

describe('XML', () => {
  it.each([
    '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    '<a>&b;</a>',
    '<a>&amp</a>',
    '<a><![CDATA[b]]></a>',
    '<a><?php b ?></a>',
    '<a><b></a></b>',
    '<a>',
    '</a>',
    '<a/><b/>',
    '<a b=c/>',
    'text<a/>',
    '<a>&#0;</a>',
    '<a>&#x110000;</a>',
    '',
  ])('refuses %j', (text) => expect(parseXml(text)).toBeUndefined());

  it('is bounded in length, depth and number', () => {
    const nested = (depth: number): string => '<a>'.repeat(depth) + '</a>'.repeat(depth);
    expect(parseXml(nested(16))).toBeDefined();
    expect(parseXml(nested(17))).toBeUndefined();
    expect(parseXml(`<a>${'<b/>'.repeat(1999)}</a>`)).toBeDefined();
    expect(parseXml(`<a>${'<b/>'.repeat(2000)}</a>`)).toBeUndefined();
    expect(parseXml(`<a>${'x'.repeat(LONGEST_DOCUMENT - 7)}</a>`)).toBeDefined();
    expect(parseXml(`<a>${'x'.repeat(LONGEST_DOCUMENT - 6)}</a>`)).toBeUndefined();
  });

  it('keeps any text through escaping, and never throws', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 100 }), (text) => {
        expect(parseXml(`<a>${escapeXml(text)}</a>`)?.text).toBe(text.trim());
      }),
    );
    const piece = fc.constantFrom(
      '<a>',
      '</a>',
      '<b/>',
      '<',
      '>',
      '&amp;',
      '&',
      '<!--',
      '-->',
      '"',
      '/',
      'x',
      '<?xml?>',
      ' c="d"',
    );
    fc.assert(fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => void parseXml(pieces.join(''))));
  });
});
