/** State folders: files that are whole or not there, one process at a time, no operator key on a relay. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { wallAt } from '../../src/base/time.js';
import { createCa } from '../../src/identity/authority.js';
import { ensureRoom, makeFolder, writeFile } from '../../src/identity/files.js';
import { generateSigningKey, signingKeyFromPem, signingKeyToPem } from '../../src/identity/keys.js';
import { StateLock } from '../../src/identity/lock.js';
import { isEnrolled, loadNode } from '../../src/identity/node-state.js';
import { createRelayFolder, loadRelayFolder, renewRelayIfDue } from '../../src/identity/relay-folder.js';
import { sealPolicy } from '../../src/policy/document.js';
import { document, policyKey, sign } from '../policy/fixtures.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sallyport-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const failure = (code: string) => expect.objectContaining({ code });

describe('files', () => {
  it('replaces a file as a whole, for its owner only, and leaves nothing beside it', () => {
    const folder = join(dir, 'a', 'b');
    makeFolder(folder);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const path = join(folder, 'x');
    writeFileSync(path, 'old', { mode: 0o644 });
    writeFile(path, 'new');
    expect(readFileSync(path, 'utf8')).toBe('new');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['x']);
  });

  it('keeps the old file when the new one cannot be put there', () => {
    const path = join(dir, 'taken');
    mkdirSync(join(path, 'inside'), { recursive: true });
    expect(() => writeFile(path, 'new')).toThrow(failure('STATE_UNWRITABLE'));
    expect(readdirSync(dir)).toEqual(['taken']);
    expect(() => writeFile(join(dir, 'missing', 'x'), 'new')).toThrow(failure('STATE_UNWRITABLE'));
  });

  it('room that is there is found, and given back', () => {
    ensureRoom(dir, 100_000);
    expect(readdirSync(dir)).toEqual([]);
    expect(() => ensureRoom(join(dir, 'missing'), 1)).toThrow(failure('STATE_UNWRITABLE'));
  });

  it('a folder without enrolment.json is not enrolled, whatever else is there', () => {
    writeFile(join(dir, 'key.pem'), 'x');
    writeFile(join(dir, 'pending.json'), '{}');
    expect(isEnrolled(dir)).toBe(false);
    expect(() => loadNode(dir)).toThrow(failure('NOT_ENROLLED'));
    writeFile(join(dir, 'enrolment.json'), '{"network":');
    expect(() => loadNode(dir)).toThrow(failure('STATE_UNREADABLE'));
  });
});

describe('StateLock', () => {
  const path = (): string => join(dir, 'lock');

  it('is held by one, and free again afterwards', () => {
    const lock = StateLock.acquire(dir);
    expect(() => StateLock.acquire(dir)).toThrow(failure('STATE_LOCKED'));
    lock.release();
    lock.release();
    expect(readdirSync(dir)).toEqual([]);
    StateLock.acquire(dir).release();
  });

  it('is not taken from a living process, and taken over from a dead one', async () => {
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
    const stat = readFileSync(`/proc/${child.pid}/stat`, 'utf8');
    const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    writeFileSync(path(), JSON.stringify({ pid: child.pid, started }));
    expect(() => StateLock.acquire(dir)).toThrow(failure('STATE_LOCKED'));
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
    StateLock.acquire(dir).release();
  });

  it('knows a reused pid from the holder, and a damaged lock from a held one', () => {
    writeFileSync(path(), JSON.stringify({ pid: process.pid, started: '1' }));
    StateLock.acquire(dir).release();
    writeFileSync(path(), '{"pid":');
    StateLock.acquire(dir).release();
  });

  it('does not remove a lock that became another’s', () => {
    const lock = StateLock.acquire(dir);
    writeFileSync(path(), JSON.stringify({ pid: 1, started: 'x' }));
    lock.release();
    expect(existsSync(path())).toBe(true);
  });
});

describe('keys', () => {
  it('a signing key comes back from PEM', () => {
    const key = generateSigningKey();
    expect(signingKeyFromPem(signingKeyToPem(key))).toEqual(key);
    expect(() => signingKeyFromPem('nonsense')).toThrow(failure('KEY_UNREADABLE'));
  });
});

describe('relay folder', () => {
  const WALL = wallAt(Date.UTC(2026, 0, 1));
  const DAY = 86_400_000;

  async function makeRelay(): Promise<string> {
    const ca = await createCa('acme', WALL);
    const relay = join(dir, 'net', 'relay');
    await createRelayFolder(
      relay,
      {
        network: 'acme',
        contact: { name: 'relay', quic: 'r.example:4433', control: 'https://r.example:8443' },
        policyKey: policyKey.publicKey,
        caPem: ca.certificatePem,
        caKeyPem: ca.keyPem,
        policy: sealPolicy(sign, document()).envelope,
        resetKey: new Uint8Array(64).fill(7),
      },
      WALL,
    );
    return relay;
  }

  it.each(['.', 'operator', '..', '../operator'])('refuses a policy key it can read in %s', async (place) => {
    const relay = await makeRelay();
    expect(loadRelayFolder(relay).policyKey).toEqual(policyKey.publicKey);
    const folder = join(relay, place);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'policy-key.pem'), 'secret');
    expect(() => loadRelayFolder(relay)).toThrow(failure('POLICY_KEY_ON_RELAY'));
    expect(loadRelayFolder(relay, true).name).toBe('relay');
  });

  it('refuses a folder of something else, and a short reset key', async () => {
    expect(() => loadRelayFolder(dir)).toThrow(failure('NOT_A_RELAY'));
    const relay = await makeRelay();
    chmodSync(join(relay, 'reset.key'), 0o600);
    writeFileSync(join(relay, 'reset.key'), 'short');
    expect(() => loadRelayFolder(relay)).toThrow(failure('STATE_UNREADABLE'));
  });

  it('renews its own certificate after two thirds of its life', async () => {
    const relay = await makeRelay();
    const folder = loadRelayFolder(relay);
    expect(await renewRelayIfDue(folder, wallAt(WALL + 59 * DAY))).toBe(folder.certificatePem);
    const renewed = await renewRelayIfDue(folder, wallAt(WALL + 60 * DAY));
    expect(renewed).not.toBe(folder.certificatePem);
    expect(loadRelayFolder(relay).certificatePem).toBe(renewed);
  });
});
