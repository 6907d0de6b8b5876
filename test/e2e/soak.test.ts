/** The short soak: packets, short flows, silence, agents that come and go, restarts of the relay and of an agent; nothing that lives on may grow. */
import { expect, it } from 'vitest';
import { SHORT } from '../../bench/soak/plan.js';
import { runSoak } from '../../bench/soak/soak.js';

it('holds memory and descriptors over packets and reconnects', async () => {
  const result = await runSoak(SHORT, () => undefined);
  expect(result.problems).toEqual([]);
  expect(result.packets).toBeGreaterThan(1000);
  expect(result.shortFlows).toMatchObject({ failed: 0 });
  expect(result.shortFlows.done).toBeGreaterThanOrEqual(SHORT.shortFlows);
  expect(result.reconnects).toMatchObject({ failed: 0 });
  expect(result.reconnects!.done).toBeGreaterThanOrEqual(SHORT.reconnects);
  const phases = new Set(result.samples.map((sample) => sample.phase));
  expect([...phases]).toEqual(['packets', 'reconnects', 'rest', 'relay restarts', 'agent restarts']);
});
