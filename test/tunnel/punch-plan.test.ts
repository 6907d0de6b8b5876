/** The punching plan: every cell of the table in docs/nat.md, and what holds of all of them. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { toMillis } from '../../src/base/time.js';
import { NAT_EASES, type NatEase, type PunchPlan, punchPlan } from '../../src/tunnel/punch-plan.js';

const documentation = readFileSync(new URL('../../docs/nat.md', import.meta.url), 'utf8');

/** What a cell of the documented table says. */
function cell(plan: PunchPlan): string {
  if (plan.rounds === 0) return 'relay';
  const rounds = `${plan.rounds} × ${toMillis(plan.spacing)} ms`;
  const more = plan.birthday === 'none' ? '' : plan.birthday === 'sockets' ? ', then 256 sockets' : ', then many ports';
  return `${rounds}${plan.usesPublic ? '' : ', not public'}${more}`;
}

const cells = NAT_EASES.flatMap((own) => NAT_EASES.map((peer): [NatEase, NatEase] => [own, peer]));

describe('the punching plan', () => {
  it.each(cells)('for %s here and %s there is the documented one', (own, peer) => {
    const row = documentation.split('\n').find((line) => line.startsWith(`| **${own}** |`));
    const columns = row!.split('|').map((text) => text.trim());
    expect(cell(punchPlan(own, peer))).toBe(columns[2 + NAT_EASES.indexOf(peer)]);
  });

  it.each(cells)('for %s here and %s there fits the one of the other side', (own, peer) => {
    const [here, there] = [punchPlan(own, peer), punchPlan(peer, own)];
    expect(here.rounds === 0).toBe(there.rounds === 0);
    expect(here.usesPublic).toBe(there.usesPublic);
    const match = { none: 'none', sockets: 'ports', ports: 'sockets' } as const;
    expect(there.birthday).toBe(match[here.birthday]);
    expect(toMillis(here.spacing)).toBeGreaterThanOrEqual(5);
    expect(toMillis(here.spacing)).toBeLessThanOrEqual(20);
  });
});
