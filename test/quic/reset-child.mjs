/** Another process with the keys of the first: answers one packet (hex, as an argument) the way a restarted server does. */
import { createRequire } from 'node:module';

const { options, packet, address, module } = JSON.parse(process.argv[2]);
const { NativeEndpoint } = createRequire(import.meta.url)(module);
const runs = new Uint32Array(10);
const out = new Uint32Array(10);
const tx = new Uint8Array(65_536);
const bytes = new Uint8Array(Buffer.from(packet, 'hex'));
const endpoint = new NativeEndpoint(
  { ...options, resetKey: new Uint8Array(Buffer.from(options.resetKey, 'hex')) },
  {
    runs,
    out,
    tx,
    events: new Float64Array(4),
    inbound: new Uint8Array(131_072),
    inboundTable: new Uint32Array(2),
    outboundTable: new Uint32Array(0),
    results: new Uint32Array(4),
    figures: new Float64Array(32),
    state: new Float64Array(4),
    scratch: new Uint8Array(0),
  },
);
runs.set([endpoint.attach(bytes), 0, bytes.length, bytes.length, 0, ...address]);
endpoint.receive(0, 1);
const answered = endpoint.transmit(0, 0, 1) === 1;
process.stdout.write(answered ? Buffer.from(tx.subarray(0, out[0])).toString('hex') : '');
