/**
 * Proxy mode on loopback: an HTTP download through SOCKS, agent, relay and connector, with the resident memory of the three
 * processes on the way.
 *
 *   npm run build && node bench/proxy.mjs [--gib 1] [--json]
 *
 * A gibibyte is about 800,000 inner packets each way of the path; `--gib 13` passes 10^7.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const main = join(dirname(dirname(fileURLToPath(import.meta.url))), 'program', 'cli', 'main.js');
const option = (name, fallback) => {
  const at = process.argv.indexOf(name);
  return at < 0 ? fallback : Number(process.argv[at + 1]);
};
const gib = option('--gib', 1);
const bytes = gib * 2 ** 30;
const chunk = Buffer.alloc(1 << 20, 0x5a);

const dir = mkdtempSync(join(tmpdir(), 'sallyport-proxy-bench-'));
const children = [];
const web = createServer((_request, response) => {
  response.writeHead(200, { 'content-length': bytes });
  let left = bytes;
  const push = () => {
    while (left > 0) {
      const part = left >= chunk.length ? chunk : chunk.subarray(0, left);
      left -= part.length;
      if (!response.write(part)) return;
    }
    response.end();
  };
  response.on('drain', push);
  push();
});

try {
  await new Promise((resolve) => web.listen(0, '127.0.0.1', resolve));
  const port = web.address().port;
  const [relay, control, socks] = await freePorts(3);
  const cli = async (...args) => (await run(process.execPath, [main, ...args])).stdout;
  const net = join(dir, 'net');
  await cli(
    'init',
    '--name',
    'bench',
    '--relay',
    `127.0.0.1:${relay}`,
    '--control',
    `127.0.0.1:${control}`,
    '--dir',
    net,
  );
  const service = `web=tcp://127.0.0.1:${port}`;
  const office = await cli('invite', 'connector', 'office', '--service', service, '--allow', 'all', '--dir', net);
  const alice = await cli('invite', 'agent', 'alice', '--group', 'all', '--dir', net);
  writeFileSync(join(dir, 'office.token'), office, { mode: 0o600 });
  writeFileSync(join(dir, 'alice.token'), alice, { mode: 0o600 });
  const listen = ['--listen', `127.0.0.1:${relay}`, '--control', `127.0.0.1:${control}`, '--allow-operator-key'];
  await start('relay', 'relay ready', ['--dir', join(net, 'relay'), ...listen]);
  const connector = ['--dir', join(dir, 'office'), '--join-file', join(dir, 'office.token'), '--path', 'relay'];
  await start('connector', 'registered', connector);
  const proxy = ['--mode', 'proxy', '--socks', `127.0.0.1:${socks}`, '--http', 'off'];
  await start('agent', 'relay-ready', ['--dir', join(dir, 'alice'), '--join-file', join(dir, 'alice.token'), ...proxy]);

  const memory = [];
  const sample = setInterval(() => memory.push(children.map(({ name, child }) => [name, rss(child.pid)])), 1000);
  const url = `http://web.bench.internal:${port}/`;
  const { stdout } = await run('curl', [
    ...['-sS', '--socks5-hostname', `127.0.0.1:${socks}`, '-o', '/dev/null'],
    ...['-w', '%{size_download} %{time_total}', url],
  ]);
  clearInterval(sample);
  const [size, seconds] = stdout.split(' ').map(Number);
  if (size !== bytes) throw new Error(`${size} of ${bytes} bytes came through`);
  const status = JSON.parse(await cli('status', '--json', '--dir', join(dir, 'alice')));
  report({
    bytes,
    seconds,
    megabitsPerSecond: (bytes * 8) / seconds / 1e6,
    packetsIn: status.sessions[0].link.packets.in,
    packetsOut: status.sessions[0].link.packets.out,
    memory: Object.fromEntries(children.map(({ name }, i) => [name, memory.map((row) => row[i][1])])),
  });
} finally {
  for (const { child } of children) child.kill('SIGTERM');
  await Promise.all(children.map(({ child }) => new Promise((resolve) => child.once('exit', resolve))));
  web.closeAllConnections();
  web.close();
  rmSync(dir, { recursive: true, force: true });
}

function report(result) {
  if (process.argv.includes('--json')) {
    console.log(JSON.stringify(result, undefined, 2));
    return;
  }
  const { megabitsPerSecond, seconds, packetsIn, packetsOut } = result;
  console.log(`${gib} GiB through SOCKS in ${seconds.toFixed(1)} s: ${megabitsPerSecond.toFixed(0)} Mbit/s`);
  console.log(`inner packets at the agent: ${packetsIn} in, ${packetsOut} out`);
  for (const [name, series] of Object.entries(result.memory)) {
    const at = (share) => series[Math.min(series.length - 1, Math.floor(series.length * share))] ?? 0;
    const quarters = [0.25, 0.5, 0.75, 1].map((share) => `${at(share).toFixed(0)} MB`);
    console.log(`RSS of the ${name.padEnd(9)} at 25, 50, 75, 100 % of the way: ${quarters.join(', ')}`);
  }
}

function rss(pid) {
  const line = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(line[1]) / 1000;
}

function start(name, ready, args) {
  const child = spawn(process.execPath, [main, name, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  children.push({ name, child });
  let log = '';
  return new Promise((resolve, reject) => {
    child.stderr.on('data', (data) => {
      log += data;
      if (log.includes(ready)) resolve();
    });
    child.once('exit', (code) => reject(new Error(`the ${name} ended with status ${code}: ${log}`)));
  });
}

async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createTcpServer());
  await Promise.all(servers.map((one) => new Promise((resolve) => one.listen(0, '127.0.0.1', resolve))));
  const ports = servers.map((one) => one.address().port);
  await Promise.all(servers.map((one) => new Promise((resolve) => one.close(resolve))));
  return ports;
}
