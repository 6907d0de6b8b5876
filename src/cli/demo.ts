/**
 * The demo: a whole network on loopback, made in a temporary folder and gone afterwards.
 *
 *   curl-like client ─► SOCKS proxy of the agent ─► relay ─► connector ─► small web service
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type Server } from 'node:http';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { AgentThreadStatus } from '../agent/thread-protocol.js';
import { describeError, SallyportError } from '../base/error.js';
import { askLocal } from '../os/local-control.js';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const READY_TIMEOUT_MS = 60_000;
const PAGE = `<!doctype html><title>Sallyport</title><h1>It works</h1>
<p>This page is served on a port that only the connector can reach.</p>
`;

const run = promisify(execFile);

export interface DemoOptions {
  /** End after one fetch. */
  readonly once: boolean;
}

/** Runs the demo; resolves with the exit status. */
export async function runDemo({ once }: DemoOptions): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'sallyport-demo-'));
  const roles: Role[] = [];
  const web = createHttpServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/html', 'content-length': Buffer.byteLength(PAGE) });
    response.end(PAGE);
  });
  const interrupted = new Promise<void>((resolve) => {
    process.once('SIGINT', () => resolve());
    process.once('SIGTERM', () => resolve());
  });
  try {
    const ports = await build(dir, web, roles);
    await fetchAndExplain(dir, ports);
    if (once) return 0;
    say('');
    say(`Try it yourself:  curl --socks5-hostname 127.0.0.1:${ports.socks} http://web.demo.internal:${ports.web}/`);
    say(`See the path:     node program/cli/main.js status --dir ${join(dir, 'alice')}`);
    say('Ctrl-C ends the demo.');
    await interrupted;
    return 0;
  } catch (error) {
    process.stderr.write(`demo: ${describeError(error)}\n`);
    for (const role of roles) process.stderr.write(role.log === '' ? '' : `--- ${role.name}\n${role.log}`);
    return 1;
  } finally {
    await Promise.all(roles.map((role) => role.stop()));
    web.closeAllConnections();
    web.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

interface Ports {
  readonly relay: number;
  readonly control: number;
  readonly socks: number;
  readonly web: number;
}

async function build(dir: string, web: Server, roles: Role[]): Promise<Ports> {
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  const [relay, control, socks] = (await freePorts(3)) as [number, number, number];
  const ports = { relay, control, socks, web: (web.address() as AddressInfo).port };
  say(`1  a small web service listens on 127.0.0.1:${ports.web}; only the connector is told about it`);
  const net = join(dir, 'net');
  await sallyport(
    'init',
    '--name',
    'demo',
    '--relay',
    `127.0.0.1:${relay}`,
    '--control',
    `127.0.0.1:${control}`,
    '--dir',
    net,
  );
  const service = `web=tcp://127.0.0.1:${ports.web}`;
  const office = await sallyport(
    'invite',
    'connector',
    'office',
    '--service',
    service,
    '--allow',
    'staff',
    '--dir',
    net,
  );
  const alice = await sallyport('invite', 'agent', 'alice', '--group', 'staff', '--dir', net);
  say('2  network "demo" made: policy key, certificates, an invitation for a connector and one for an agent');
  const listen = ['--listen', `127.0.0.1:${relay}`, '--control', `127.0.0.1:${control}`];
  await start(roles, 'relay', 'relay ready', ['relay', '--dir', join(net, 'relay'), '--allow-operator-key', ...listen]);
  say(`3  relay listens on UDP 127.0.0.1:${relay}`);
  const connector = ['connector', '--dir', join(dir, 'office'), '--join-file', tokenFile(dir, 'office', office)];
  const agent = ['agent', '--dir', join(dir, 'alice'), '--join-file', tokenFile(dir, 'alice', alice)];
  const proxy = ['--mode', 'proxy', '--socks', `127.0.0.1:${socks}`, '--http', 'off'];
  await Promise.all([
    start(roles, 'connector', 'registered', connector),
    start(roles, 'agent', 'relay-ready', [...agent, ...proxy]),
  ]);
  say(`4  connector and agent have enrolled and are connected; the agent offers a SOCKS proxy on 127.0.0.1:${socks}`);
  return ports;
}

async function fetchAndExplain(dir: string, ports: Ports): Promise<void> {
  const host = 'web.demo.internal';
  const begun = process.hrtime.bigint();
  const page = await fetchThroughSocks(ports.socks, host, ports.web);
  const took = Number(process.hrtime.bigint() - begun) / 1e6;
  if (!page.endsWith(PAGE))
    throw new SallyportError('bug', 'DEMO_PAGE', 'the page that came back is not the one served');
  say(
    `5  GET http://${host}:${ports.web}/ through the tunnel: ${page.length} bytes in ${took.toFixed(0)} ms, session set-up included`,
  );
  say('');
  for (const line of PAGE.trim().split('\n')) say(`   ${line}`);
  say('');
  const status = (await askLocal(join(dir, 'alice'), { command: 'status' })) as AgentThreadStatus;
  for (const { connector, link, reason } of status.sessions) {
    if (link === undefined) continue;
    const { via, rttMilliseconds, packets } = link;
    say(`   path: agent → ${via} → connector ${connector} (${reason}), RTT ${rttMilliseconds.toFixed(2)} ms,`);
    say(`   ${packets.out} packets out and ${packets.in} in, end-to-end encrypted; the relay saw sizes and times only`);
  }
}

class Role {
  log = '';
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<number>;

  constructor(name: string, args: readonly string[]) {
    this.name = name;
    this.#child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#exited = new Promise((resolve) => this.#child.once('exit', (code) => resolve(code ?? 1)));
  }

  /** Resolves when the log holds `text`. */
  async until(text: string): Promise<void> {
    const seen = new Promise<void>((resolve) => {
      this.#child.stderr!.on('data', (chunk: Buffer) => {
        this.log += chunk.toString();
        if (this.log.includes(text)) resolve();
      });
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(failed(`the ${this.name} did not get ready`)), READY_TIMEOUT_MS);
    });
    const ended = this.#exited.then((code) => Promise.reject(failed(`the ${this.name} ended with status ${code}`)));
    try {
      await Promise.race([seen, late, ended]);
    } finally {
      clearTimeout(timer);
      ended.catch(() => undefined);
    }
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#exited;
  }
}

async function start(roles: Role[], name: string, ready: string, args: readonly string[]): Promise<void> {
  const role = new Role(name, args);
  roles.push(role);
  await role.until(ready);
}

function failed(message: string): SallyportError {
  return new SallyportError('environment', 'DEMO_FAILED', message);
}

async function sallyport(...args: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [MAIN, ...args]);
  return stdout;
}

function tokenFile(dir: string, name: string, token: string): string {
  const path = join(dir, `${name}.token`);
  writeFileSync(path, token, { mode: 0o600 });
  return path;
}

/** Ports that are free now for TCP; the demo takes them a moment later. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  await Promise.all(servers.map((one) => new Promise<void>((resolve) => one.listen(0, '127.0.0.1', resolve))));
  const ports = servers.map((one) => (one.address() as AddressInfo).port);
  await Promise.all(servers.map((one) => new Promise((resolve) => one.close(resolve))));
  return ports;
}

/** One HTTP/1.0 request through a SOCKS 5 proxy (RFC 1928), the name left to the proxy; resolves with all that came back. */
async function fetchThroughSocks(proxyPort: number, host: string, port: number): Promise<string> {
  const socket = connect(proxyPort, '127.0.0.1');
  try {
    socket.write(Uint8Array.of(5, 1, 0));
    await readExactly(socket, 2);
    const name = Buffer.from(host);
    socket.write(Buffer.concat([Uint8Array.of(5, 1, 0, 3, name.length), name, Uint8Array.of(port >> 8, port & 255)]));
    const reply = await readExactly(socket, 10);
    if (reply[1] !== 0) throw failed(`the proxy refused with code ${reply[1]}`);
    socket.write(`GET / HTTP/1.0\r\nhost: ${host}\r\n\r\n`);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString();
  } finally {
    socket.destroy();
  }
}

function readExactly(socket: Socket, length: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const take = (): void => {
      const bytes = socket.read(length) as Buffer | null;
      if (bytes === null) return;
      socket.off('readable', take);
      resolve(bytes);
    };
    socket.on('readable', take);
    socket.once('error', reject);
    socket.once('close', () => reject(failed('the proxy closed the connection')));
    take();
  });
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
