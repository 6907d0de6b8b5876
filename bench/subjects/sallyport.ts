/**
 * Sallyport as a user runs it: a network made by the command line, a relay in the middle, a connector in front of the service, an
 * agent with a TUN device.
 *
 *   user: agent (TUN) ══ relay ══ connector: engine ── service's own sockets
 *
 * The operator invites before the relay starts, so that the policy the relay has been given knows the service already.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../../src/base/error.js';
import { Seconds } from '../../src/base/time.js';
import type { Host } from '../../test/lab/host.js';
import { REPOSITORY } from '../../test/lab/services.js';
import { ADDRESSES } from '../../test/lab/topology.js';
import type { RunningSubject, Subject, SubjectContext } from '../subject.js';

const QUIC_PORT = 4433;
const CONTROL_PORT = 8443;
/** In the range that services get their virtual addresses from. */
const VIRTUAL_IP = '10.100.0.10';
const SERVICE = 'lab';
const GROUP = 'users';
const DEVICE = 'sallyport0';
/** Time for the graceful end that SIGTERM asks for. */
const STOP_TIME = Seconds(5);

export class Sallyport implements Subject {
  readonly name = 'sallyport';
  private readonly main = join(REPOSITORY, 'dist', 'cli', 'main.js');

  async prepare(): Promise<string> {
    if (!existsSync(this.main)) {
      throw new SallyportError('environment', 'BENCH_SUBJECT_UNAVAILABLE', 'Sallyport is not built', {
        hint: 'npm run build',
      });
    }
    const manifest = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { version: string };
    return `${manifest.version}, over the relay`;
  }

  async start(context: SubjectContext): Promise<RunningSubject> {
    const { relay, service, user } = context.topology;
    const network = join(context.folder, 'network');
    mkdirSync(network);
    const operate = (...argv: string[]) => relay.exec(this.argv(network, ...argv));

    await operate('init', '--name', 'bench', '--relay', `${ADDRESSES.relay.v4}:${QUIC_PORT}`);
    const backend = `${SERVICE}=any://${ADDRESSES.service.v4},virtualIp=${VIRTUAL_IP}`;
    const forService = await operate('invite', 'connector', 'service', '--service', backend, '--allow', GROUP);
    const forUser = await operate('invite', 'agent', 'user', '--group', GROUP);
    const connectorToken = tokenFile(context.folder, 'connector', forService.stdout);
    const agentToken = tokenFile(context.folder, 'agent', forUser.stdout);

    const listen = ['--listen', `0.0.0.0:${QUIC_PORT}`, '--control', `0.0.0.0:${CONTROL_PORT}`];
    // A relay refuses to start where it can read the operator's key.
    const relayFolder = join(context.folder, 'r');
    renameSync(join(network, 'relay'), relayFolder);
    const relayProcess = this.spawn(relay, relayFolder, 'relay', ...listen);
    await relayProcess.waitForPort('udp', QUIC_PORT);
    await relayProcess.waitForPort('tcp', CONTROL_PORT);
    const connector = this.spawn(service, join(context.folder, 'c'), 'connector', '--join-file', connectorToken);
    const agent = this.spawn(user, join(context.folder, 'a'), 'agent', '--join-file', agentToken, '--mode', 'tun');
    const processes = { relay: relayProcess, connector, agent };
    return {
      target: VIRTUAL_IP,
      device: { host: user, name: DEVICE },
      processes,
      stop: async () => {
        await Promise.all([agent, connector, relayProcess].map((started) => started.stop('SIGTERM', STOP_TIME)));
      },
    };
  }

  private spawn(host: Host, dir: string, ...argv: string[]) {
    mkdirSync(dir, { recursive: true });
    return host.spawn(this.argv(dir, ...argv, '--log-level', 'warn'));
  }

  private argv(dir: string, ...argv: string[]): string[] {
    return [process.execPath, this.main, ...argv, '--dir', dir];
  }
}

/** Puts a join token into a file that only we can read. */
function tokenFile(folder: string, name: string, token: string): string {
  const file = join(folder, `${name}.token`);
  writeFileSync(file, token, { mode: 0o600 });
  return file;
}
