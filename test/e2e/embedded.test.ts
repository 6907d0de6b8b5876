/** The example of an engine inside a program of one's own, run as a reader of docs/engine.md runs it. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { REPOSITORY } from '../lab/services.js';

test('examples/engine-embedded says what it promises, and ends by itself', async () => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['examples/engine-embedded/main.mjs'], {
    cwd: join(REPOSITORY),
    timeout: 30_000,
  });
  expect(stdout.trim().split('\n')).toEqual([
    'tcp: hello',
    'rejected: refused',
    'no longer rejected: mail',
    'udp: datagram',
    'served: time to go',
    'flows: 2 tcp, 1 udp',
  ]);
  expect(stderr.trim().split('\n')).toEqual(['info engine started { mtu: 1500 }', 'info engine stopped {}']);
});
