/**
 * The client's side of a SOCKS 5 UDP association (RFC 1928 §4, §7), for programs that send datagrams.
 */
import { connect, isIPv4, isIPv6 } from 'node:net';

/**
 * Asks the proxy at ADDRESS:PORT or [ADDRESS]:PORT for an association, which lives as long as this process. Resolves to where to
 * send, the header in front of every datagram to `host` and `port`, and how long the header of a received one is.
 * @param {string} proxy
 * @param {string} host
 * @param {number} port
 * @returns {Promise<{ address: string, port: number, header: Buffer, skip: (data: Buffer) => number }>}
 */
export function associate(proxy, host, port) {
  const at = proxy.lastIndexOf(':');
  const control = connect({ host: proxy.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(proxy.slice(at + 1)) });
  control.write(Buffer.of(5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0));
  let reply = Buffer.alloc(0);
  return new Promise((resolve, reject) => {
    control.on('error', reject);
    control.on('close', () => reject(new Error('the proxy ended the association')));
    control.on('data', (bytes) => {
      reply = Buffer.concat([reply, bytes]);
      const length = reply[5] === 4 ? 16 : 4;
      if (reply.length < 8 + length) return;
      if (reply[3] !== 0) {
        reject(new Error(`the proxy refuses: ${reply[3]}`));
        return;
      }
      const words = reply.subarray(6, 6 + length);
      const groups =
        length === 4 ? [...words] : Array.from({ length: 8 }, (_, i) => words.readUInt16BE(i * 2).toString(16));
      const address = groups.join(length === 4 ? '.' : ':');
      const header = Buffer.concat([Buffer.of(0, 0, 0), encode(host), Buffer.of(port >> 8, port & 255)]);
      resolve({ address, port: reply.readUInt16BE(6 + length), header, skip: (data) => (data[3] === 4 ? 22 : 10) });
    });
  });
}

/** @param {string} host */
function encode(host) {
  if (isIPv4(host)) return Buffer.of(1, ...host.split('.').map(Number));
  if (!isIPv6(host)) return Buffer.concat([Buffer.of(3, host.length), Buffer.from(host)]);
  const [head = '', tail = ''] = host.split('::');
  const groups = (/** @type {string} */ part) =>
    part === '' ? [] : part.split(':').map((one) => Number.parseInt(one, 16));
  const [before, after] = [groups(head), groups(tail)];
  const all = host.includes('::')
    ? [...before, ...new Array(8 - before.length - after.length).fill(0), ...after]
    : before;
  return Buffer.of(4, ...all.flatMap((group) => [group >> 8, group & 255]));
}
