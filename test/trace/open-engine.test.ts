import { describe, expect, it } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { SallyportError } from '../../src/base/error.js';
import { openEngine } from '../../src/trace/open-engine.js';
import { chain, LOCAL, options, shown } from './engine/paths.js';
import { SimIo } from './engine/sim-io.js';

const signal = new AbortController().signal;

describe('the engine of this system', () => {
  it('is opened once, for any number of runs and end-to-end probes', async () => {
    const io = new SimIo(LOCAL, chain(3));
    let opened = 0;
    const engine = openEngine(new SeededEntropy(1), async () => {
      opened++;
      return io;
    });
    for (const windowsDriver of process.platform === 'win32' ? [false] : [false, true]) {
      const events = (async () => {
        for await (const event of engine.run(options({ windowsDriver }), signal))
          if (event.kind === 'done') return event.run;
        return undefined;
      })();
      expect(shown((await io.drive(events))!)).toHaveLength(3);
    }
    expect(await io.drive(engine.probeEnd(options(), signal))).toBeGreaterThan(0);
    expect(opened).toBe(1);
  });

  it('fails its runs with what could not be opened', async () => {
    const engine = openEngine(new SeededEntropy(1), async () => {
      throw new SallyportError('environment', 'PLATFORM_NOT_SUPPORTED', 'no tracing here');
    });
    await expect(engine.probeEnd(options(), signal)).rejects.toMatchObject({ code: 'PLATFORM_NOT_SUPPORTED' });
  });

  it('closes what is still being opened', async () => {
    let closed = 0;
    const io = Object.assign(new SimIo(LOCAL, chain(3)), { close: () => closed++ });
    const engine = openEngine(new SeededEntropy(1), async () => io);
    engine.close();
    await expect.poll(() => closed).toBe(1);
    await expect(engine.probeEnd(options(), signal)).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
  });
});
