/** Work in a thread that ends with it, so that nothing of what it loads stays. */
import { once } from 'node:events';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { SallyportError } from '../base/error.js';

/**
 * Has the module at `url` answer `data` in a thread of its own, which ends with it; its memory is free then.
 * @throws what the module throws; SallyportError THREAD_ENDED (bug) when it ends without an answer.
 */
export async function runAside<Answer>(url: URL, name: string, data: unknown): Promise<Answer> {
  const worker = new Worker(url, { name, workerData: data });
  const answer = once(worker, 'message') as Promise<[Answer]>;
  const ended = once(worker, 'exit').then(() => {
    throw new SallyportError('bug', 'THREAD_ENDED', `the thread ${name} ended without an answer`);
  });
  try {
    return (await Promise.race([answer, ended]))[0];
  } finally {
    // Whatever else was loaded into it (`--import`) may have it live on.
    await worker.terminate();
  }
}

/** For the module that `runAside` starts. */
export async function answerAside<Data, Answer>(work: (data: Data) => Promise<Answer>): Promise<void> {
  parentPort?.postMessage(await work(workerData as Data));
}
