import { describe, expect, it } from 'vitest';
import { type Instant, instantAt } from '../../src/base/time.js';
import { Timer, TimerQueue } from '../../src/base/timers.js';

const at = (n: number): Instant => instantAt(n);

describe('TimerQueue', () => {
  it('fires what is due, in order of deadlines and then of arming', () => {
    const queue = new TimerQueue();
    const fired: string[] = [];
    const timer = (name: string): Timer => new Timer((now) => fired.push(`${name}@${now}`));
    const [a, b, c, d] = [timer('a'), timer('b'), timer('c'), timer('d')];
    queue.arm(a, at(30));
    queue.arm(b, at(10));
    queue.arm(c, at(10));
    queue.arm(d, at(99));
    expect(queue.next()).toBe(10);
    expect(queue.expire(at(9.5))).toBe(0);
    expect(queue.expire(at(30))).toBe(3);
    expect(fired).toEqual(['b@30', 'c@30', 'a@30']);
    expect([a.isArmed, d.isArmed, queue.size, queue.next()]).toEqual([false, true, 1, 99]);
  });

  it('re-arming moves the deadline, cancelling removes it, armNoLater only brings it forward', () => {
    const queue = new TimerQueue();
    let count = 0;
    const timer = new Timer(() => count++);
    queue.arm(timer, at(10));
    queue.arm(timer, at(50));
    expect(queue.expire(at(20))).toBe(0);
    queue.armNoLater(timer, at(60));
    expect(queue.deadline(timer)).toBe(50);
    queue.armNoLater(timer, at(40));
    expect(queue.deadline(timer)).toBe(40);
    queue.cancel(timer);
    queue.cancel(timer);
    expect(queue.expire(at(100))).toBe(0);
    expect([count, queue.next(), queue.deadline(timer), queue.isDue(at(1e9))]).toEqual([
      0,
      undefined,
      undefined,
      false,
    ]);
  });

  it('a handler may cancel, arm others and re-arm itself; the past cannot hold the loop', () => {
    const queue = new TimerQueue();
    const fired: string[] = [];
    const victim = new Timer(() => fired.push('victim'));
    const again: Timer = new Timer(() => {
      fired.push('again');
      queue.cancel(victim);
      queue.arm(again, at(0));
    });
    queue.arm(again, at(1));
    queue.arm(victim, at(2));
    expect(queue.expire(at(5))).toBeLessThanOrEqual(2);
    expect(fired).not.toContain('victim');
    expect(queue.isDue(at(5))).toBe(true);
    queue.clear();
    expect(again.isArmed).toBe(false);
  });
});
