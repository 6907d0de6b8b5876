/**
 * Who is let in: tokens that were used, have expired or were altered, and certificates that are missing or of another CA, are
 * refused with one clear line; a wrong relay and a revocation show in the status.
 */
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Seconds, type WallTime, wallAt } from '../../src/base/time.js';
import { CertificateAuthority, createCa } from '../../src/identity/authority.js';
import { spkiOf } from '../../src/identity/keys.js';
import type { ExecResult } from '../lab/host.js';
import { Lab } from '../lab/lab.js';
import { startHttp } from '../lab/services.js';
import { ADDRESSES } from '../lab/topology.js';
import { type AgentThreadStatus, Network, type RelayThreadStatus } from './network.js';
import { type Role, sallyport } from './role.js';
import { shortCertificate } from './short-certificate.js';
import { Download } from './transfer.js';

const PROXY = ['--mode', 'proxy', '--socks', 'off', '--http', 'off'];
const SOCKS = '127.0.0.1:1082';
/** Of a certificate: a process starts in a part of it, it is renewed after two thirds. */
const SHORT_LIFE = Seconds(9);
/** A download that lasts longer, also without what sockets on the way hold of it (some 10 MB). */
const BYTES = 45_000_000;
const RATE = '3M';
const TOKEN_LIFE_MS = 1000;
const CHECKSUM_BYTES = 8;

describe.skipIf(Lab.unavailable() !== undefined)('who is let in', () => {
  let network: Network;
  /** An agent that is enrolled and stopped; tests break its folder and mend it. */
  let dave: Role;
  /** In the same folder, with other arguments. */
  let short: Role | undefined;

  beforeAll(async () => {
    network = await Network.make({ services: { web: `tcp://${ADDRESSES.backend.v4}:8080` }, agent: false });
    dave = await network.newAgent('dave', network.topology.user, PROXY);
    await network.startAgent(dave);
    await dave.stop();
  });
  afterAll(async () => {
    await network?.destroy();
  });
  beforeEach((context) => network.reportFailure(context));
  afterEach(async () => {
    for (const role of [dave, short]) if (role?.process.running === true) await role.stop();
  });

  /** Starts a role on a fresh folder with this token; it is expected to end by itself. */
  const enrolAs = async (role: 'agent' | 'connector', folder: string, tokenFile: string): Promise<ExecResult> => {
    const argv = sallyport(role, '--join-file', tokenFile, '--dir', join(network.folder, folder));
    return network.topology.user.exec([...argv, ...(role === 'agent' ? PROXY : [])], { check: false });
  };
  const refused = (result: ExecResult, reason: RegExp): void => {
    expect(result.stderr).toMatch(reason);
    expect(result.code).toBe(1);
    // For people: one line, and no stack.
    expect(result.stderr.trim().split('\n')).toHaveLength(1);
  };

  it('refuses a token that was used', async () => {
    refused(await enrolAs('agent', 'second', network.tokenFile('dave')), /invitation of dave has been used/);
    expect(existsSync(join(network.folder, 'second', 'enrolment.json'))).toBe(false);
  });

  it('refuses a token that has expired', async () => {
    const file = await network.inviteAgent('erin', '--expires', `${TOKEN_LIFE_MS / 1000}s`);
    await delay(TOKEN_LIFE_MS);
    refused(await enrolAs('agent', 'erin', file), /token has expired/);
  });

  it('refuses a token that was damaged, and one that was altered with care', async () => {
    const file = await network.inviteAgent('frank');
    const token = readFileSync(file, 'utf8').trim();
    const middle = token.length >> 1;
    writeFileSync(file, `${token.slice(0, middle)}${token[middle] === 'A' ? 'B' : 'A'}${token.slice(middle + 1)}\n`);
    refused(await enrolAs('agent', 'frank', file), /token/);

    // Somebody gives himself another group, and makes the checksum right again.
    const body = JSON.parse(Buffer.from(token, 'base64url').subarray(CHECKSUM_BYTES).toString('utf8')) as {
      invitation: { payload: string };
    };
    const invitation = Buffer.from(body.invitation.payload, 'base64').toString('utf8');
    body.invitation.payload = Buffer.from(invitation.replace('"staff"', '"admin"')).toString('base64');
    const bytes = Buffer.from(JSON.stringify(body));
    const checksum = createHash('sha256').update(bytes).digest().subarray(0, CHECKSUM_BYTES);
    writeFileSync(file, `${Buffer.concat([checksum, bytes]).toString('base64url')}\n`);
    refused(await enrolAs('agent', 'frank', file), /token|invitation|signature/i);

    writeFileSync(file, `${token}\n`);
    const frank = network.role('frank', network.topology.user, ['agent', '--join-file', file, ...PROXY]);
    await network.startAgent(frank);
    await frank.stop();
  });

  it('refuses an agent’s token for a connector', async () => {
    refused(await enrolAs('connector', 'grace', await network.inviteAgent('grace')), /token is for an? agent/);
  });

  it('says that the relay of a token cannot be reached', async () => {
    const nowhere = '198.51.100.77';
    const dir = join(network.folder, 'elsewhere');
    await network.must('init', '--name', 'lab', '--relay', nowhere, '--dir', dir);
    const file = network.tokenFile('heidi');
    writeFileSync(file, await network.must('invite', 'agent', 'heidi', '--group', 'staff', '--dir', dir));
    refused(await enrolAs('agent', 'heidi', file), new RegExp(`${nowhere}`));
  });

  it('refuses to start without its certificate', async () => {
    const path = join(dave.dir, 'cert.pem');
    const certificate = readFileSync(path);
    rmSync(path);
    try {
      refused(await enrolAs('agent', 'dave', network.tokenFile('dave')), /cert\.pem/);
    } finally {
      writeFileSync(path, certificate);
    }
  });

  it('lets one process at a time use a folder', async () => {
    await network.startAgent(dave);
    refused(await enrolAs('agent', 'dave', network.tokenFile('dave')), /in use|another process|locked/i);
    await dave.stop();
  });

  it('a node with a certificate of another CA is not let in by the relay, and is told', async () => {
    const path = join(dave.dir, 'cert.pem');
    await withFile(path, await foreignCertificate('agent', 'dave', dave.dir), async () => {
      dave.start();
      const { relay } = await dave.waitForStatus<AgentThreadStatus>(
        'the refusal',
        (status) => status.relay.problem !== '',
      );
      expect(relay.state).not.toBe('ready');
      expect(relay.problem).toMatch(/certificate|CA/i);
      const { nodes } = await network.relay.status<RelayThreadStatus>();
      expect(nodes.map((one) => one.name)).toEqual(['office']);
      await dave.stop();
    });
  });

  it('a relay with a certificate of another CA is not believed, and the node says so', async () => {
    await network.relay.stop();
    const path = join(network.relay.dir, 'cert.pem');
    await withFile(path, await foreignCertificate('relay', 'relay', network.relay.dir), async () => {
      await network.startRelay();
      dave.start();
      const { relay } = await dave.waitForStatus<AgentThreadStatus>(
        'the refusal',
        (status) => status.relay.problem !== '',
      );
      expect(relay.state).not.toBe('ready');
      expect(relay.problem).toMatch(/certificate|issuer/i);
      await dave.stop();
      await network.relay.stop();
    });
    await network.startRelay();
    await network.startAgent(dave);
    await dave.stop();
  });

  it('says that nobody answers at the relay’s address', async () => {
    const path = join(dave.dir, 'enrolment.json');
    const enrolment = readFileSync(path, 'utf8');
    await withFile(path, enrolment.replace(/"198\.51\.100\.2:4433"/, '"198.51.100.2:9"'), async () => {
      dave.start({ SALLYPORT_RELAY_TCP: 'never' });
      const { relay } = await dave.waitForStatus<AgentThreadStatus>(
        'the problem',
        (status) => status.relay.problem !== '',
      );
      expect(relay.problem).toMatch(/does not answer/);
      await dave.stop();
    });
  });

  it('a certificate that ends in mid-session: its links end with it, the renewed one is used, and the download goes on', async () => {
    await startHttp(network.topology.backend);
    const proxy = ['--mode', 'proxy', '--socks', SOCKS, '--http', 'off'];
    const agent = network.role('dave', network.topology.user, ['agent', ...proxy]);
    short = agent;
    let certificate = '';
    const startsOverUdp = async (): Promise<boolean> => {
      certificate = await shortCertificate(network.relay.dir, agent.dir, SHORT_LIFE);
      writeFileSync(join(agent.dir, 'cert.pem'), certificate);
      await network.startAgent(agent);
      return (await agent.waitForLog('relay-ready'))['over'] === 'udp';
    };
    // On a slow machine the relay is reached over TCP first; when UDP takes over, it may be with the renewed certificate already.
    while (!(await startsOverUdp())) await agent.stop();
    const download = await Download.start(network, 'http://web:8080', BYTES, RATE, ['-x', `socks5h://${SOCKS}`]);
    const expired = await agent.waitForLog('relay-lost', ({ reason }) =>
      /certificate (has )?expired/.test(String(reason)),
    );
    const before = agent.logged('relay-ready').filter(({ time }) => Number(time) <= Number(expired['time'])).length;
    await agent.waitForLog('certificate renewed');
    expect(readFileSync(join(agent.dir, 'cert.pem'), 'utf8')).not.toBe(certificate);
    await agent.waitForLog('relay-ready', undefined, { skip: before });
    await agent.waitForStatus<AgentThreadStatus>(
      'the session to be live again',
      ({ sessions }) => sessions.length === 1 && sessions[0]!.state === 'live',
    );
    expect(await download.outcome()).toBe('complete');
    await agent.stop();
  });

  it('a revoked agent loses its connection and does not come back', async () => {
    await network.startAgent(dave);
    await network.must('revoke', 'dave', '--dir', network.operatorFolder);
    cpSync(join(network.operatorFolder, 'operator', 'policy.json'), join(network.relay.dir, 'policy.json'));
    network.relay.process.signal('SIGHUP');
    await network.relay.waitForLog('new policy');
    const { relay } = await dave.waitForStatus<AgentThreadStatus>(
      'the refusal',
      (status) => status.relay.state !== 'ready' && /revoked/i.test(status.relay.problem),
    );
    expect(relay.problem).toMatch(/revoked/i);
    const { nodes } = await network.relay.status<RelayThreadStatus>();
    expect(nodes.map((one) => one.name)).not.toContain('dave');
    await dave.stop();
  });
});

/** A certificate with all the right names for the key in `dir`, from a CA that is not the network's but has its name. */
async function foreignCertificate(role: 'agent' | 'relay', name: string, dir: string): Promise<string> {
  const wall: WallTime = wallAt(Date.now());
  const authority = new CertificateAuthority('lab', await createCa('lab', wall));
  const spki = spkiOf(readFileSync(join(dir, 'key.pem'), 'utf8'));
  return authority.issue({ role, name, spki, addresses: [] }, wall);
}

/** Runs `body` while the file has another content. */
async function withFile(path: string, content: string, body: () => Promise<void>): Promise<void> {
  const before = readFileSync(path);
  writeFileSync(path, content);
  try {
    await body();
  } finally {
    writeFileSync(path, before);
  }
}
