/**
 * Several UDP flows to one echo server at once, each from a socket of its own that stays open. For each line of standard input,
 * `{"sizes": [0, 100, …], "wait": 3000}`, every flow sends a datagram of each size, one after the other, all flows side by side,
 * and waits up to `wait` milliseconds for the echo; then one line of JSON is printed:
 * {flows: [{port, sent, received, wrong, lost: [sizes]}]}. "wrong" are datagrams that are not the echo this flow waits for.
 *
 *   datagram: bytes that follow from label, flow and number (SHA-256 in counter mode), so that no two flows send the same
 *
 * udp-flows.mjs HOST PORT [--flows 5] [--label name]; prints "ready" when the sockets are open.
 */
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { parseArguments } from './content.mjs';

const { named, plain } = parseArguments(process.argv.slice(2));
const [host = '127.0.0.1', port = '7'] = plain;
const label = named['label'] ?? 'flow';
let serial = 0;

class Flow {
  /** @param {number} number */
  constructor(number) {
    this.number = number;
    this.socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    this.report = { port: 0, sent: 0, received: 0, wrong: 0, lost: /** @type {number[]} */ ([]) };
    /** @type {{ data: Buffer, done: (arrived: boolean) => void } | undefined} */
    this.waiting = undefined;
    this.socket.on('error', (error) => console.error(error.message));
    this.socket.on('message', (data) => {
      if (this.waiting === undefined || !data.equals(this.waiting.data)) this.report.wrong++;
      else this.waiting.done(true);
    });
  }

  async open() {
    this.socket.connect(Number(port), host);
    await once(this.socket, 'connect');
    this.report.port = this.socket.address().port;
  }

  /**
   * @param {readonly number[]} sizes
   * @param {number} wait
   */
  async run(sizes, wait) {
    Object.assign(this.report, { sent: 0, received: 0, wrong: 0, lost: [] });
    for (const size of sizes) {
      const data = datagram(`${label}/${this.number}/${serial++}`, size);
      const arrived = await new Promise((resolve) => {
        const timer = setTimeout(() => resolve(false), wait);
        const done = (/** @type {boolean} */ result) => {
          clearTimeout(timer);
          resolve(result);
        };
        this.waiting = { data, done };
        this.socket.send(data, (error) => error && done(false));
      });
      this.waiting = undefined;
      this.report.sent++;
      if (arrived) this.report.received++;
      else this.report.lost.push(size);
    }
    return this.report;
  }
}

const flows = Array.from({ length: Number(named['flows'] ?? 5) }, (_, number) => new Flow(number));
await Promise.all(flows.map((flow) => flow.open()));
console.log('ready');
for await (const line of createInterface(process.stdin)) {
  const { sizes, wait = 3000 } = JSON.parse(line);
  console.log(JSON.stringify({ flows: await Promise.all(flows.map((flow) => flow.run(sizes, wait))) }));
}
process.exit(0);

/**
 * @param {string} name
 * @param {number} size
 */
function datagram(name, size) {
  const pieces = [];
  for (let have = 0, block = 0; have < size; have += 32, block++) {
    pieces.push(createHash('sha256').update(`${name}/${block}`).digest());
  }
  return Buffer.concat(pieces).subarray(0, size);
}
