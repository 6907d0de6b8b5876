/**
 * The port-mapping side of a home router: PCP, NAT-PMP and UPnP-IGD for UDP, with real rules in nftables. One line of JSON for each
 * request that changes something: {"protocol": …, "inside": "ADDRESS:PORT", "public": PORT, "lifetime": seconds; 0 = removed}.
 *
 * gateway.mjs INSIDE-ADDRESS OUTSIDE-DEVICE OUTSIDE-ADDRESS [--speaks pcp,nat-pmp,upnp] [--lifetime 7200] [--permanent yes] [--taken PORT]
 *   lifetime: the most that is granted; permanent: UPnP leases without an end only; taken: this public port is somebody else's
 */
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { parseArguments } from './content.mjs';

const { named, plain } = parseArguments(process.argv.slice(2));
const [insideAddress = '', device = '', outsideAddress = ''] = plain;
const speaks = (named['speaks'] ?? 'pcp,nat-pmp,upnp').split(',');
const longest = Number(named['lifetime'] ?? 7200);
const taken = Number(named['taken'] ?? 0);
/** @type {Map<number, string>} */
const mapped = new Map();
const bytesOf = outsideAddress.split('.').map(Number);

function apply() {
  const inward = [...mapped].map(([port, inside]) => `iifname "${device}" udp dport ${port} dnat to ${inside}`);
  const outward = [...mapped].map(([port, inside]) => {
    const [address, insidePort] = inside.split(':');
    return `oifname "${device}" ip saddr ${address} udp sport ${insidePort} snat to ${outsideAddress}:${port}`;
  });
  const rules = `
    table ip lab_portmap
    delete table ip lab_portmap
    table ip lab_portmap {
      chain inward {
        type nat hook prerouting priority dstnat - 1
        ${inward.join('\n')}
      }
      chain outward {
        type nat hook postrouting priority srcnat - 1
        ${outward.join('\n')}
      }
    }`;
  execFileSync('nft', ['-f', '-'], { input: rules });
}

/**
 * Maps or removes; returns the public port and what was granted.
 * @param {string} protocol
 * @param {string} inside
 * @param {number} wanted
 * @param {number} lifetime
 */
function map(protocol, inside, wanted, lifetime) {
  for (const [port, other] of mapped) if (other === inside) mapped.delete(port);
  let port = wanted;
  while (lifetime > 0 && (port === 0 || port === taken || mapped.has(port))) port++;
  const granted = Math.min(lifetime, longest);
  if (granted > 0) mapped.set(port, inside);
  apply();
  console.log(JSON.stringify({ protocol, inside, public: port, lifetime: granted }));
  return { port, granted };
}

if (speaks.includes('pcp') || speaks.includes('nat-pmp')) {
  const socket = createSocket('udp4');
  socket.on('message', (request, from) => {
    const reply = request[0] === 2 && speaks.includes('pcp') ? pcp(request, from.address) : pmp(request, from.address);
    if (reply !== undefined) socket.send(reply, from.port, from.address);
  });
  socket.bind(5351, insideAddress);
  await once(socket, 'listening');
}

/**
 * @param {Buffer} request
 * @param {string} from
 */
function pcp(request, from) {
  const reply = Buffer.from(request);
  reply[1] = Number(request[1]) | 0x80;
  reply.fill(0, 2, 4);
  reply.writeUInt32BE(1, 8);
  reply.fill(0, 12, 24);
  if (request[1] === 0) return reply;
  const { port, granted } = map(
    'pcp',
    `${from}:${request.readUInt16BE(40)}`,
    request.readUInt16BE(42),
    request.readUInt32BE(4),
  );
  reply.writeUInt32BE(granted, 4);
  reply.writeUInt16BE(port, 42);
  reply.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...bytesOf], 44);
  return reply;
}

/**
 * @param {Buffer} request
 * @param {string} from
 */
function pmp(request, from) {
  if (!speaks.includes('nat-pmp')) return undefined;
  // Another version: "unsupported", RFC 6886 §3.5.
  if (request[0] !== 0) return Buffer.from([0, 0x80 | Number(request[1]), 0, 1, 0, 0, 0, 1]);
  if (request[1] === 0) return Buffer.from([0, 0x80, 0, 0, 0, 0, 0, 1, ...bytesOf]);
  const inside = request.readUInt16BE(4);
  const { port, granted } = map('nat-pmp', `${from}:${inside}`, request.readUInt16BE(6), request.readUInt32BE(8));
  const reply = Buffer.alloc(16);
  reply.set([0, 0x81, 0, 0, 0, 0, 0, 1]);
  reply.writeUInt16BE(inside, 8);
  reply.writeUInt16BE(port, 10);
  reply.writeUInt32BE(granted, 12);
  return reply;
}

if (speaks.includes('upnp')) {
  const type = 'urn:schemas-upnp-org:service:WANIPConnection:1';
  const description = `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList><service><serviceType>${type}</serviceType>
<controlURL>/ctl/IPConn</controlURL></service></serviceList></device></root>`;
  /** @param {string} text @param {string} name */
  const field = (text, name) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1] ?? '';
  /** @param {string} inner */
  const envelope = (inner) =>
    `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>${inner}</s:Body></s:Envelope>`;
  /** @param {number} code */
  const fault = (code) =>
    envelope(`<s:Fault><detail><UPnPError><errorCode>${code}</errorCode></UPnPError></detail></s:Fault>`);
  /** @param {string} action @param {string} body */
  const act = (action, body) => {
    const port = Number(field(body, 'NewExternalPort'));
    if (action === 'GetExternalIPAddress') return { NewExternalIPAddress: outsideAddress };
    if (action === 'DeletePortMapping') {
      map('upnp', mapped.get(port) ?? '', port, 0);
      return {};
    }
    const lease = Number(field(body, 'NewLeaseDuration'));
    if (named['permanent'] !== undefined && lease !== 0) return 725;
    if (port === taken) return 718;
    const inside = `${field(body, 'NewInternalClient')}:${field(body, 'NewInternalPort')}`;
    map('upnp', inside, port, lease === 0 ? longest : lease);
    return {};
  };
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      if (request.method === 'GET') {
        response.end(description);
        return;
      }
      const action = /#(\w+)"$/.exec(String(request.headers['soapaction']))?.[1] ?? '';
      const result = act(action, body);
      if (typeof result === 'number') {
        response.statusCode = 500;
        response.end(fault(result));
        return;
      }
      const fields = Object.entries(result).map(([name, value]) => `<${name}>${value}</${name}>`);
      response.end(envelope(`<u:${action}Response xmlns:u="${type}">${fields.join('')}</u:${action}Response>`));
    });
  });
  server.listen(5000, insideAddress);
  await once(server, 'listening');
  const ssdp = createSocket('udp4');
  ssdp.on('message', (request, from) => {
    if (!request.toString().startsWith('M-SEARCH')) return;
    ssdp.send(
      `HTTP/1.1 200 OK\r\nLOCATION: http://${insideAddress}:5000/desc.xml\r\nST: x\r\n\r\n`,
      from.port,
      from.address,
    );
  });
  ssdp.bind(1900, insideAddress);
  await once(ssdp, 'listening');
}
console.log('ready');
