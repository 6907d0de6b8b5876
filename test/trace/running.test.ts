import { describe, expect, it } from 'vitest';
import { traceError } from '../../src/trace/error.js';
import type { TraceStep } from '../../src/trace/orchestration.js';
import { startTrace } from '../../src/trace/running.js';
import { FakeEngine, fakeEnvironment } from './fake-engine.js';

const FEW = { queries: 2, endToEndQueries: 1 };
const hanging = (): FakeEngine =>
  new FakeEngine({
    run: (_, __, signal) =>
      new Promise((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(traceError('TIMEOUT', 'aborted'))),
      ),
  });

async function all(steps: AsyncIterable<TraceStep>): Promise<string[]> {
  const kinds: string[] = [];
  for await (const step of steps) kinds.push(step.kind);
  return kinds;
}

describe('a trace under way', () => {
  it('is a promise of the result and an iteration of the steps, for any number of readers', async () => {
    let ended = 0;
    const running = startTrace('target.example', FEW, fakeEnvironment(new FakeEngine()), () => {
      ended++;
    });
    const [result, first, second] = await Promise.all([running, all(running), all(running)]);
    expect(result.runs).toHaveLength(2);
    expect(first.filter((kind) => kind === 'hop')).toHaveLength(4);
    expect(first[0]).toBe('resolved');
    expect(second).toEqual(first);
    expect(await all(running)).toEqual(first);
    expect(ended).toBe(1);
  });

  it('is ended by abort() and by the signal it was given', async () => {
    const engine = hanging();
    const running = startTrace('target.example', FEW, fakeEnvironment(engine));
    const read = all(running);
    await expect.poll(() => engine.active).toBe(2);
    running.abort();
    await expect(running).rejects.toMatchObject({ code: 'TIMEOUT' });
    await expect(read).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(engine.active).toBe(0);
    const controller = new AbortController();
    const other = startTrace('target.example', { ...FEW, signal: controller.signal }, fakeEnvironment(hanging()));
    controller.abort();
    await expect(other).rejects.toMatchObject({ code: 'TIMEOUT' });
  });

  it('that fails fails in the iteration, too', async () => {
    const running = startTrace('nowhere.example', {}, fakeEnvironment(new FakeEngine()));
    await expect(all(running)).rejects.toMatchObject({ code: 'DNS' });
    await expect(running).rejects.toMatchObject({ code: 'DNS' });
  });
});
