import { expect, it } from 'vitest';
import { runAside } from '../../src/os/aside.js';

const thread = (code: string): URL => new URL(`data:text/javascript,${encodeURIComponent(code)}`);
const PORT = "import { parentPort, workerData } from 'node:worker_threads';";

it('answers what it was asked', async () => {
  const url = thread(`${PORT} parentPort.postMessage(workerData.a + 1);`);
  expect(await runAside<number>(url, 'sum', { a: 41 })).toBe(42);
});

it('ends the thread, whatever it still waits for', async () => {
  const cells = new Int32Array(new SharedArrayBuffer(4));
  const url = thread(`${PORT} setInterval(() => Atomics.add(workerData, 0, 1), 1); parentPort.postMessage('here');`);
  expect(await runAside(url, 'endless', cells)).toBe('here');
  const ticks = Atomics.load(cells, 0);
  Atomics.wait(cells, 0, ticks, 50);
  expect(Atomics.load(cells, 0)).toBe(ticks);
});

it('fails as the thread does', async () => {
  await expect(runAside(thread('throw new TypeError("no such key")'), 'csr', 1)).rejects.toThrow(/no such key/);
});

it('does not wait for a thread that ended without an answer', async () => {
  await expect(runAside(thread(''), 'csr', 1)).rejects.toMatchObject({ code: 'THREAD_ENDED' });
});
