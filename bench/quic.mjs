/**
 * DATAGRAMs per second through two QUIC endpoints in one thread, without a network: both ends, sealing, opening and
 * acknowledgements on one core; and the same bytes on streams, a megabyte each. Needs a build (`npm run build`).
 *
 *   node bench/quic.mjs [seconds per run] [--json]
 */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { SocketAddress } from '../dist/base/address.js';
import { instantAt, wallAt } from '../dist/base/time.js';
import { QuicEndpoint } from '../dist/quic/endpoint.js';

const PAYLOAD = 1400;
const BATCH = 40;
const SEGMENTS = 40;
const MESSAGE = new Uint8Array(1_000_000).fill(7);
const seconds = Number(process.argv.find((a) => /^\d+(\.\d+)?$/.test(a)) ?? 4);
const asJson = process.argv.includes('--json');

x509.cryptoProvider.set(webcrypto);
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY = 86_400_000;

async function identities() {
  const generate = () => webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const dates = { notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + DAY) };
  const keys = await generate();
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=bench',
    signingAlgorithm: ALGORITHM,
    keys,
    ...dates,
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  });
  const issue = async (name, usage) => {
    const leaf = await generate();
    const certificate = await x509.X509CertificateGenerator.create({
      subject: `CN=${name}`,
      issuer: root.subject,
      signingAlgorithm: ALGORITHM,
      publicKey: leaf.publicKey,
      signingKey: keys.privateKey,
      ...dates,
      extensions: [
        new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: name }]),
        new x509.ExtendedKeyUsageExtension([usage]),
      ],
    });
    const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', leaf.privateKey)).toString('base64');
    return {
      certificate: certificate.toString('pem'),
      key: `-----BEGIN PRIVATE KEY-----\n${der.replace(/.{64}/g, '$&\n')}\n-----END PRIVATE KEY-----\n`,
    };
  };
  return {
    ca: root.toString('pem'),
    server: await issue('server.test', '1.3.6.1.5.5.7.3.1'),
    client: await issue('client.test', '1.3.6.1.5.5.7.3.2'),
  };
}

const micros = () => instantAt(performance.now() * 1000);

function pair(certs, options) {
  const counts = { received: 0, streamed: 0, connected: 0 };
  const handler = {
    onConnected: () => counts.connected++,
    onClosed: (_now, reason) => {
      throw new Error(`closed: ${reason.text}`);
    },
    onDatagrams: (_now, batch) => {
      counts.received += batch.count;
    },
    onControlMessage: () => {},
    onPush: (_now, bytes) => {
      counts.streamed += bytes.length;
    },
  };
  const common = { alpn: 'bench', ca: certs.ca, wallTime: wallAt(Date.now()), ...options };
  const server = new QuicEndpoint({
    ...common,
    identity: certs.server,
    client: false,
    server: { accept: () => handler },
  });
  const client = new QuicEndpoint({ ...common, identity: certs.client, client: true });
  const addresses = new Uint32Array(10);
  SocketAddress.parse('192.0.2.1:1').write(addresses, 0);
  SocketAddress.parse('192.0.2.2:2').write(addresses, 1);
  const toServer = server.attachReceive(client.tx);
  const toClient = client.attachReceive(server.tx);
  const move = (now, from, to, memory, index) => {
    let offset = 0;
    while (from.transmit(now, offset, SEGMENTS)) {
      to.queueRun(memory, offset, from.out.length, from.out.segment, 0, addresses, index);
      offset += (from.out.length + 63) & ~63;
      if (offset + 65_536 > from.tx.length) {
        to.receive(now);
        offset = 0;
      }
    }
    to.process(now);
  };
  const turn = (now) => {
    move(now, client, server, toServer, 1);
    move(now, server, client, toClient, 0);
  };
  const connection = client.connect(micros(), SocketAddress.parse('192.0.2.1:1'), 'server.test', handler);
  // Until size discovery has found room for the payload.
  for (let i = 0; i < 10_000 && connection.maxDatagramSize < PAYLOAD; i++) turn(micros());
  if (counts.connected !== 2 || connection.maxDatagramSize < PAYLOAD) throw new Error('no connection');
  return { client, connection, turn, counts };
}

/** Bytes that arrive on streams, as datagrams of the same payload would. */
function measureStreams(certs, name, options) {
  const { connection, turn, counts } = pair(certs, options);
  const run = (span) => {
    const start = micros();
    const before = counts.streamed;
    const cpuBefore = process.cpuUsage();
    let now = start;
    while (now - start < span * 1e6) {
      connection.push(MESSAGE);
      turn(now);
      now = micros();
    }
    const received = (counts.streamed - before) / PAYLOAD;
    const cpu = process.cpuUsage(cpuBefore);
    return { received, rate: (received / (now - start)) * 1e6, cpuRate: (received / (cpu.user + cpu.system)) * 1e6 };
  };
  run(seconds / 4);
  return summary(name, run(seconds));
}

function summary(name, result) {
  const { rate, cpuRate } = result;
  return {
    name,
    datagramsPerSecond: Math.round(rate),
    perCpuSecond: Math.round(cpuRate),
    gigabits: (rate * PAYLOAD * 8) / 1e9,
    ...result,
  };
}

function measure(certs, name, options) {
  const { client, connection, turn, counts } = pair(certs, options);
  const { arena, table } = client.outbound;
  arena.bytes.fill(7, 0, BATCH * PAYLOAD);
  for (let i = 0; i < BATCH; i++) {
    table[i * 2] = i * PAYLOAD;
    table[i * 2 + 1] = PAYLOAD;
  }
  const run = (span) => {
    const start = micros();
    const before = counts.received;
    const cpuBefore = process.cpuUsage();
    let sent = 0;
    let now = start;
    while (now - start < span * 1e6) {
      sent += connection.writeDatagrams(now, BATCH);
      turn(now);
      now = micros();
    }
    const received = counts.received - before;
    const cpu = process.cpuUsage(cpuBefore);
    // Per second of this process's own processor time: what other programs take does not count.
    return {
      sent,
      received,
      rate: (received / (now - start)) * 1e6,
      cpuRate: (received / (cpu.user + cpu.system)) * 1e6,
    };
  };
  run(seconds / 4);
  return summary(name, run(seconds));
}

const certs = await identities();
const results = [
  measure(certs, 'AES-128-GCM, open', {}),
  measure(certs, 'ChaCha20-Poly1305, open', { suite: 'chacha20' }),
  measure(certs, 'AES-128-GCM, CUBIC', { controller: 'cubic' }),
  measureStreams(certs, 'AES-128-GCM, streams', {}),
  measureStreams(certs, 'the same, CUBIC', { controller: 'cubic' }),
];
if (asJson) console.log(JSON.stringify({ payload: PAYLOAD, seconds, node: process.version, results }));
else
  for (const r of results) {
    console.log(
      `${r.name.padEnd(26)} ${(r.datagramsPerSecond / 1000).toFixed(0).padStart(5)} k datagrams/s  ${(r.perCpuSecond / 1000).toFixed(0).padStart(5)} k per CPU second  ${r.gigabits.toFixed(2)} Gbit/s  ${r.sent === undefined ? 'on streams' : `lost ${r.sent - r.received}`}`,
    );
  }
