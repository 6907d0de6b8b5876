/** The operator's commands on a real folder: what they sign, print, copy and refuse. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { StateLock } from '../../src/identity/lock.js';
import { loadRelayFolder } from '../../src/identity/relay-folder.js';
import type { PolicyDocument } from '../../src/policy/document.js';
import { PolicyKeeper } from '../../src/policy/keeper.js';
import { parseToken } from '../../src/policy/token.js';
import { crypto, failure, TestNetwork } from './network.js';

let network: TestNetwork;
beforeEach(async () => {
  network = new TestNetwork();
  await network.run('init', '--name', 'acme', '--relay', 'relay.example.com');
});
afterEach(() => network.stop());

/** The policy the relay would serve, checked as a node checks it. */
function served(): PolicyDocument {
  const folder = loadRelayFolder(join(network.dir, 'relay'), true);
  const keeper = new PolicyKeeper(crypto, folder.policyKey, folder.network);
  keeper.offer(folder.policy);
  return keeper.signed!.document;
}

describe('init', () => {
  it('makes two folders, the key in one only, and never overwrites', async () => {
    expect(existsSync(join(network.dir, 'operator', 'policy-key.pem'))).toBe(true);
    expect(() => loadRelayFolder(join(network.dir, 'relay'))).toThrow(failure('POLICY_KEY_ON_RELAY'));
    const folder = loadRelayFolder(join(network.dir, 'relay'), true);
    expect(folder.contact).toEqual({
      name: 'relay',
      quic: 'relay.example.com:4433',
      control: 'https://relay.example.com:8443',
    });
    const before = readFileSync(join(network.dir, 'operator', 'policy-key.pem'), 'utf8');
    await expect(network.run('init')).rejects.toEqual(failure('OPERATOR_EXISTS'));
    rmSync(join(network.dir, 'relay'), { recursive: true });
    await expect(network.run('init')).rejects.toEqual(failure('OPERATOR_EXISTS'));
    expect(readFileSync(join(network.dir, 'operator', 'policy-key.pem'), 'utf8')).toBe(before);
  });

  it('refuses names and addresses that cannot be', async () => {
    const other = new TestNetwork();
    try {
      await expect(other.run('init', '--name', 'Not A Label')).rejects.toEqual(failure('NETWORK_NAME'));
      await expect(other.run('init', '--relay', 'host:99999')).rejects.toEqual(failure('ADDRESS_INVALID'));
      await expect(other.run('init', '--control', 'http://x')).rejects.toEqual(failure('ADDRESS_INVALID'));
      expect(existsSync(other.dir)).toBe(false);
      const { out } = await other.run('init', '--relay', '[2001:db8::1]:5000', '--json');
      expect(JSON.parse(out[0]!)).toMatchObject({ quic: '[2001:db8::1]:5000', control: 'https://[2001:db8::1]:8443' });
    } finally {
      await other.stop();
    }
  });
});

describe('invite', () => {
  it('prints the token alone, and adds services with their grant to the signed policy', async () => {
    const { out, notes } = await network.run(
      ...['invite', 'connector', 'site', '--allow', 'staff'],
      ...['--service', 'web=tcp://10.0.0.5:8080', '--service', 'net=any://10.0.0.0/24'],
    );
    expect(out.length).toBe(1);
    const token = parseToken(crypto, out[0]!);
    expect(token.services).toEqual({ web: 'tcp://10.0.0.5:8080', net: 'any://10.0.0.0/24' });
    expect(token.relays[0]?.quic).toBe('relay.example.com:4433');
    expect(notes.join('\n')).not.toContain(out[0]);
    expect(served()).toMatchObject({
      version: 2,
      services: [
        {
          id: 'web',
          protocols: ['tcp'],
          ports: [[8080, 8080]],
          target: 'single',
          virtualIp4: '10.100.0.1',
          connectors: ['site'],
        },
        { id: 'net', protocols: ['tcp', 'udp', 'icmp'], ports: 'any', target: 'cidr', prefix: '10.0.0.0/24' },
      ],
      grants: [{ from: ['group:staff'], to: ['web', 'net'] }],
    });
  });

  it('says that nobody may use a service without --allow', async () => {
    const { notes } = await network.run('invite', 'connector', 'site', '--service', 'web=tcp://h:1');
    expect(notes.join('\n')).toContain('Nobody may use web');
    expect(served().grants).toEqual([]);
  });

  it('a second connector joins a service; another shape is refused; nothing changes without need', async () => {
    const spec = ['--service', 'web=tcp://h:1', '--allow', 'staff'];
    await network.run('invite', 'connector', 'one', ...spec);
    await network.run('invite', 'connector', 'two', '--service', 'web=tcp://other:1');
    expect(served()).toMatchObject({
      version: 3,
      services: [{ connectors: ['one', 'two'], virtualIp4: '10.100.0.1' }],
    });
    await expect(network.run('invite', 'connector', 'x', '--service', 'web=udp://h:1')).rejects.toEqual(
      failure('SERVICE_EXISTS'),
    );
    await network.run('invite', 'connector', 'one', ...spec);
    expect(served().version).toBe(3);
  });

  it('an agent invited again keeps its addresses; two agents never share one', async () => {
    const overlay = async (name: string) => parseToken(crypto, await network.token('agent', name)).invitation.overlay4;
    expect([await overlay('alice'), await overlay('bob'), await overlay('alice')]).toEqual([
      '100.64.0.1',
      '100.64.0.2',
      '100.64.0.1',
    ]);
  });

  it('pins addresses when told, and keeps those of a service that comes back', async () => {
    const web = 'web=tcp://h:1,virtualIp=10.100.7.7';
    await network.run('invite', 'connector', 'site', '--service', web, '--service', 'db=tcp://h:2');
    await expect(
      network.run('invite', 'connector', 'site', '--service', 'x=tcp://h:3,virtualIp=10.100.7.7'),
    ).rejects.toEqual(failure('ADDRESS_TAKEN'));
    const file = join(network.root, 'policy.json');
    writeFileSync(file, JSON.stringify({ ...served(), services: [] }));
    await network.run('policy', 'apply', file);
    await network.run('invite', 'connector', 'site', '--service', 'new=tcp://h:3', '--service', 'web=tcp://h:1');
    expect(served().services.map((service) => [service.id, service.virtualIp4])).toEqual([
      ['new', '10.100.0.3'],
      ['web', '10.100.7.7'],
    ]);
  });

  it.each([
    [['invite', 'relay', 'x']],
    [['invite', 'agent', 'Not-A-Label']],
    [['invite', 'agent', 'x', '--service', 'web=tcp://h:1']],
    [['invite', 'agent', 'x', '--allow', 'g']],
    [['invite', 'connector', 'x', '--group', 'g']],
    [['invite', 'connector', 'x', '--allow', 'g']],
  ])('refuses %j', async (args) => {
    await expect(network.run(...args)).rejects.toEqual(failure('INVITE_ARGUMENT'));
    expect(served().version).toBe(1);
  });

  it('refuses impossible expiries, and to work beside another command', async () => {
    for (const expires of ['1', '0h', '91d', '-1h', '1w']) {
      await expect(network.run('invite', 'agent', 'x', `--expires=${expires}`)).rejects.toEqual(
        failure('DURATION_INVALID'),
      );
    }
    const lock = StateLock.acquire(join(network.dir, 'operator'));
    await expect(network.run('invite', 'agent', 'x')).rejects.toEqual(failure('STATE_LOCKED'));
    lock.release();
    await network.run('invite', 'agent', 'x');
  });
});

describe('policy and revoke', () => {
  it('revoke adds every invitation of the name, once', async () => {
    const tokens = [await network.token('agent', 'alice'), await network.token('agent', 'alice')];
    const ids = tokens.map((token) => parseToken(crypto, token).invitation.id);
    const { out } = await network.run('revoke', 'alice', '--json');
    expect(JSON.parse(out[0]!)).toEqual({ name: 'alice', revoked: ids, policyVersion: 2, copied: true });
    expect(served()).toMatchObject({ version: 2, revocations: ids });
    await network.run('revoke', 'alice');
    expect(served().version).toBe(2);
    await expect(network.run('revoke', 'nobody')).rejects.toEqual(failure('UNKNOWN_NODE'));
  });

  it('explains, by the agent’s newest invitation that counts', async () => {
    await network.run('invite', 'connector', 'site', '--service', 'web=tcp://h:80', '--allow', 'staff');
    await network.run('invite', 'agent', 'alice', '--group', 'staff');
    const ask = async (...args: string[]) =>
      JSON.parse((await network.run('policy', 'explain', ...args, '--json')).out[0]!) as { allowed: boolean };
    expect((await ask('alice', 'web', '--port', '80')).allowed).toBe(true);
    expect((await ask('alice', 'web', '--port', '81')).allowed).toBe(false);
    await network.run('revoke', 'alice');
    expect((await ask('alice', 'web')).allowed).toBe(false);
    await network.run('invite', 'agent', 'alice', '--group', 'staff');
    expect((await ask('alice', 'web')).allowed).toBe(true);
    await expect(network.run('policy', 'explain', 'eve', 'web')).rejects.toEqual(failure('UNKNOWN_NODE'));
  });

  it('apply signs the next version, refuses stale files, errors and other networks', async () => {
    await network.run('invite', 'connector', 'site', '--service', 'web=tcp://h:80', '--allow', 'staff');
    const file = join(network.root, 'policy.json');
    const shown = JSON.parse((await network.run('policy', 'show', '--json')).out[0]!) as PolicyDocument;
    const put = (more: object) => writeFileSync(file, JSON.stringify({ ...shown, ...more }));
    put({ grants: [{ from: ['group:staff'], to: ['gone'] }] });
    await expect(network.run('policy', 'apply', file)).rejects.toEqual(failure('POLICY_LINT'));
    put({ tests: [{ from: 'group:guest', service: 'web', expect: 'allow' }] });
    await expect(network.run('policy', 'apply', file)).rejects.toEqual(failure('POLICY_LINT'));
    put({ network: 'other' });
    await expect(network.run('policy', 'apply', file)).rejects.toEqual(failure('NETWORK_MISMATCH'));
    put({ grants: 'all' });
    await expect(network.run('policy', 'apply', file)).rejects.toEqual(failure('POLICY_MALFORMED'));
    expect(served().version).toBe(2);
    put({ tests: [{ from: 'group:guest', service: 'web', expect: 'deny' }] });
    await network.run('policy', 'apply', file);
    expect(served().version).toBe(3);
    await expect(network.run('policy', 'apply', file)).rejects.toEqual(failure('POLICY_STALE'));
    expect((await network.run('policy', 'test')).out[0]).toContain('1 of 1 passed');
  });

  it('lint exits with an error only for errors; without relay/ it says what to copy', async () => {
    const { notes } = await network.run('invite', 'connector', 'site', '--service', 'web=tcp://h:80');
    expect(notes[0]).toContain('copied to the relays’ folders');
    expect((await network.run('policy', 'lint')).out[0]).toContain('PL06 warning');
    rmSync(join(network.dir, 'relay'), { recursive: true });
    const alone = await network.run('invite', 'connector', 'site', '--service', 'db=tcp://h:81');
    expect(alone.notes[0]).toContain('copy operator/policy.json');
    network.clock.advance(100 * 86_400_000);
    await expect(network.run('policy', 'lint')).rejects.toEqual(failure('POLICY_LINT'));
    const elsewhere = new TestNetwork();
    await expect(elsewhere.run('policy', 'show')).rejects.toEqual(failure('NOT_AN_OPERATOR'));
    await elsewhere.stop();
  });
});
