/** A network on disk made by the operator's own commands, and its control server on a loopback port. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, expect } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { instantAt, type WallTime, wallAt } from '../../src/base/time.js';
import * as addRelay from '../../src/cli/commands/add-relay.js';
import * as init from '../../src/cli/commands/init.js';
import * as invite from '../../src/cli/commands/invite.js';
import * as policy from '../../src/cli/commands/policy.js';
import * as revoke from '../../src/cli/commands/revoke.js';
import type { CommandContext } from '../../src/cli/context.js';
import { type ControlServer, createControlServer } from '../../src/control/server.js';
import { loadRelayFolder, type RelayFolder } from '../../src/identity/relay-folder.js';
import { createCrypto } from '../../src/os/crypto.js';
import { PolicyKeeper } from '../../src/policy/keeper.js';

export const crypto = createCrypto();
export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

/** Begins at the real time, because TLS reads the real clock; moves only when told. */
export class TestClock {
  micros = 0;
  time = Date.now();
  now = () => instantAt(this.micros);
  wall = (): WallTime => wallAt(this.time);
  advance(millis: number): void {
    this.micros += millis * 1_000;
    this.time += millis;
  }
}

/** What one command printed. */
export interface Printed {
  readonly out: string[];
  readonly notes: string[];
}

export class TestNetwork {
  readonly root = mkdtempSync(join(tmpdir(), 'sallyport-test-'));
  readonly dir = join(this.root, 'net');
  readonly clock = new TestClock();
  readonly entropy = new SeededEntropy(7);
  readonly log: unknown[] = [];
  folder!: RelayFolder;
  keeper!: PolicyKeeper;
  server!: ControlServer;
  port = 0;

  /** Runs one command line of the operator in this network's folder. */
  async run(...args: string[]): Promise<Printed> {
    const printed: Printed = { out: [], notes: [] };
    const context: CommandContext = {
      crypto,
      clock: this.clock,
      entropy: this.entropy,
      environment: {},
      out: (text) => printed.out.push(text),
      note: (text) => printed.notes.push(text),
    };
    const program = new Command().exitOverride();
    for (const command of [init, addRelay, invite, policy, revoke]) command.register(program, context);
    await program.parseAsync([...args, '--dir', this.dir], { from: 'user' });
    return printed;
  }

  /** `init` with the control server listening on a free port that the tokens then name. */
  async start(): Promise<void> {
    const { port } = await freePort();
    this.port = port;
    await this.run('init', '--name', 'acme', '--relay', '127.0.0.1', '--control', `127.0.0.1:${port}`);
    await this.serve();
  }

  async serve(): Promise<void> {
    this.folder = loadRelayFolder(join(this.dir, 'relay'), true);
    this.keeper = new PolicyKeeper(crypto, this.folder.policyKey, this.folder.network);
    this.keeper.offer(this.folder.policy);
    const record = (fields: object, message: string): void => void this.log.push([message, fields]);
    this.server = createControlServer({
      folder: this.folder,
      listen: SocketAddress.parse(`127.0.0.1:${this.port}`)!,
      policy: this.keeper,
      crypto,
      clock: this.clock,
      log: { info: record, warn: record, error: record },
    });
    await this.server.start();
  }

  /** What SIGHUP does: the policy file again. */
  reload(): void {
    this.keeper.offer(loadRelayFolder(this.folder.dir, true).policy);
  }

  async token(...args: string[]): Promise<string> {
    return (await this.run('invite', ...args)).out[0]!;
  }

  state(name: string): string {
    return join(this.root, name);
  }

  enrolOptions() {
    return { crypto, wall: this.clock.wall() };
  }

  async stop(): Promise<void> {
    await this.server?.stop();
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** The network of the running test, in files that call `eachTest`. */
export let network: TestNetwork;

/** Every test of the file gets a network of its own, its control server listening. */
export function eachTest(): void {
  beforeEach(async () => {
    network = new TestNetwork();
    await network.start();
  });
  afterEach(() => network.stop());
}

/** What an error of this code looks like. */
export const failure = (code: string) => expect.objectContaining({ code });

async function freePort(): Promise<{ port: number }> {
  const { createServer } = await import('node:net');
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve({ port }));
    });
  });
}
