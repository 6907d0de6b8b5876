import koffi from 'koffi';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ADDRESS_WORDS, IpAddress, SocketAddress } from '../../../src/base/address.js';
import { EAGAIN, EMSGSIZE, ENOBUFS, type UdpSocket } from '../../../src/os/io.js';
import { openUdp } from '../../../src/os/linux/udp.js';

const EIO = 5;
const EINTR = 4;

/** What the kernel would answer to the next calls: an errno each; 0 and the end of the list let the call through. */
const script = vi.hoisted(() => ({ answers: [] as number[], calls: 0, pauses: 0 }));

vi.mock('../../../src/os/linux/libc.js', async (original) => {
  const libc = await original<typeof import('../../../src/os/linux/libc.js')>();
  return {
    ...libc,
    sendmmsg: (...args: number[]) => {
      script.calls++;
      const code = script.answers.shift() ?? 0;
      if (code === 0) return libc.sendmmsg(...args);
      koffi.errno(code);
      return -1;
    },
    ppoll: () => {
      script.pauses++;
      return 0;
    },
  };
});

const LOOPBACK = new SocketAddress(IpAddress.parse('127.0.0.1')!, 0);
let sender: UdpSocket;
let receiver: UdpSocket;
let to: Uint32Array;

beforeEach(() => {
  sender = openUdp(LOOPBACK);
  receiver = openUdp(LOOPBACK);
  to = new Uint32Array(ADDRESS_WORDS);
  receiver.local.write(to, 0);
  Object.assign(script, { answers: [], calls: 0, pauses: 0 });
});
afterEach(() => {
  sender.close();
  receiver.close();
});

/** Sizes of the datagrams that arrived. */
function arrived(): number[] {
  const sizes: number[] = [];
  for (let count = receiver.receive(); count > 0; count = receiver.receive()) {
    for (let i = 0; i < count; i++) {
      for (let at = 0; at < receiver.rx.lengths[i]!; at += receiver.rx.segments[i]!) {
        sizes.push(Math.min(receiver.rx.segments[i]!, receiver.rx.lengths[i]! - at));
      }
    }
  }
  return sizes;
}

/** Queues messages given as [length, segment]. */
function queue(...messages: [number, number][]): void {
  const memory = sender.registerTransmit(new Uint8Array(65_000).map((_, i) => i));
  for (const [length, segment] of messages) sender.send(memory, 0, length, segment, to, 0);
}

describe('a flush', () => {
  it('falls back to single datagrams for good when the device cannot cut runs apart', () => {
    queue([2500, 1000], [200, 200], [90, 30]);
    script.answers = [EIO];
    sender.flush();
    expect(arrived()).toEqual([1000, 1000, 500, 200, 30, 30, 30]);
    expect(sender.capabilities.segmentationOffload).toBe(false);
    expect(sender.counters).toMatchObject({ datagramsOut: 7, bytesOut: 2790, sendFailed: 0, sendBlocked: 0 });
    script.calls = 0;
    queue([2500, 1000]);
    sender.flush();
    expect(arrived()).toEqual([1000, 1000, 500]);
    // Queued one by one from now on, and handed over together.
    expect(script.calls).toBe(1);
  });

  it('keeps the source address when it sends datagrams one by one', () => {
    sender.close();
    sender = openUdp(new SocketAddress(IpAddress.parse('0.0.0.0')!, 0));
    const source = new SocketAddress(IpAddress.parse('127.0.0.9')!, sender.local.port);
    const sources = new Uint32Array(ADDRESS_WORDS);
    source.write(sources, 0);
    sender.send(sender.registerTransmit(new Uint8Array(100)), 0, 100, 60, to, 0, sources, 0);
    script.answers = [EIO];
    sender.flush();
    expect(receiver.receive()).toBe(2);
    expect([0, 1].map((i) => SocketAddress.read(receiver.rx.sources, i).toString())).toEqual(
      [source, source].map(String),
    );
    expect([receiver.rx.lengths[0], receiver.rx.lengths[1]]).toEqual([60, 40]);
  });

  it('takes EIO of a single datagram for a failure of that datagram', () => {
    queue([100, 100], [2000, 1000]);
    script.answers = [EIO];
    sender.flush();
    expect(arrived()).toEqual([1000, 1000]);
    expect(sender.capabilities.segmentationOffload).toBe(true);
    expect(sender.counters).toMatchObject({ datagramsOut: 2, sendFailed: 1 });
  });

  it('drops the message that was refused, and only it', () => {
    queue([100, 100], [3000, 1000], [200, 200]);
    script.answers = [EMSGSIZE];
    sender.flush();
    expect(arrived()).toEqual([1000, 1000, 1000, 200]);
    expect(sender.counters).toMatchObject({ datagramsOut: 4, sendFailed: 1, sendBlocked: 0 });
    expect(script.pauses).toBe(0);
  });

  it('counts every datagram of a refused run', () => {
    queue([3001, 1000], [200, 200]);
    script.answers = [EMSGSIZE];
    sender.flush();
    expect(arrived()).toEqual([200]);
    expect(sender.counters).toMatchObject({ datagramsOut: 1, sendFailed: 4 });
  });

  it.each([
    ['EAGAIN', EAGAIN],
    ['ENOBUFS', ENOBUFS],
  ])('waits a little for room (%s) and sends the rest', (_, code) => {
    queue([100, 100], [300, 300]);
    script.answers = [code, code, code, code];
    sender.flush();
    expect(arrived()).toEqual([100, 300]);
    expect(script.pauses).toBe(4);
    expect(sender.counters).toMatchObject({ datagramsOut: 2, sendBlocked: 0 });
  });

  it('gives up what stays blocked, and starts afresh with the next flush', () => {
    queue([100, 100], [3000, 1000]);
    script.answers = new Array<number>(5).fill(EAGAIN);
    sender.flush();
    expect(arrived()).toEqual([]);
    expect([script.calls, script.pauses]).toEqual([5, 4]);
    expect(sender.counters).toMatchObject({ datagramsOut: 0, sendBlocked: 4, sendFailed: 0 });
    queue([7, 7]);
    sender.flush();
    expect(arrived()).toEqual([7]);
    sender.flush();
    expect(script.calls).toBe(6);
  });

  it('tries again after a signal', () => {
    queue([1, 1]);
    script.answers = [EINTR, EINTR];
    sender.flush();
    expect(arrived()).toEqual([1]);
  });

  describe('that keeps what finds no room', () => {
    beforeEach(() => {
      sender.close();
      sender = openUdp(LOOPBACK, { keepsUnsent: true });
    });

    it('is blocked until a flush finds room, and does not wait for it again', () => {
      queue([100, 100], [3000, 1000], [50, 50]);
      script.answers = new Array<number>(5).fill(EAGAIN);
      sender.flush();
      expect([sender.isBlocked, script.calls, script.pauses, sender.waits]).toEqual([true, 5, 4, 0]);
      script.answers = [EAGAIN];
      sender.flush();
      expect([sender.isBlocked, script.calls, script.pauses]).toEqual([true, 6, 4]);
      sender.flush();
      expect(sender.isBlocked).toBe(false);
      expect(arrived()).toEqual([100, 1000, 1000, 1000, 50]);
      expect(sender.counters).toMatchObject({ datagramsOut: 5, sendBlocked: 0, sendFailed: 0 });
    });

    it('does not wait at all when it is told not to', () => {
      queue([100, 100]);
      script.answers = [EAGAIN];
      sender.flush(false);
      expect([sender.isBlocked, script.calls, script.pauses]).toEqual([true, 1, 0]);
    });

    it('takes nothing more while it is blocked, and counts it', () => {
      queue([100, 100]);
      script.answers = [EAGAIN];
      sender.flush(false);
      queue([3000, 1000], [7, 7]);
      sender.flush();
      expect(arrived()).toEqual([100]);
      expect(sender.counters).toMatchObject({ datagramsOut: 1, sendBlocked: 4 });
    });

    it('blocks in the middle of a turn when more is queued than it holds, without losing what it has', () => {
      script.answers = new Array<number>(5).fill(EAGAIN);
      queue(...Array.from({ length: 66 }, (_, i): [number, number] => [i + 1, i + 1]));
      expect([sender.isBlocked, sender.counters.sendBlocked]).toEqual([true, 2]);
      sender.flush();
      expect(arrived()).toEqual(Array.from({ length: 64 }, (_, i) => i + 1));
    });

    it('gives up when told to; then drops at once what finds no room, until something does', () => {
      queue([3000, 1000]);
      script.answers = [EAGAIN];
      sender.flush(false);
      sender.giveUp();
      expect([sender.isBlocked, sender.counters.sendBlocked]).toEqual([false, 3]);
      queue([7, 7]);
      script.answers = [EAGAIN];
      sender.flush();
      expect([sender.isBlocked, sender.counters.sendBlocked, script.pauses]).toEqual([false, 4, 0]);
      queue([8, 8]);
      sender.flush();
      expect(arrived()).toEqual([8]);
      queue([9, 9]);
      script.answers = new Array<number>(5).fill(EAGAIN);
      sender.flush();
      expect(sender.isBlocked).toBe(true);
    });

    it('does not keep what a full device queue refuses: nobody says when there is room', () => {
      queue([100, 100]);
      script.answers = new Array<number>(5).fill(ENOBUFS);
      sender.flush();
      expect([sender.isBlocked, sender.counters.sendBlocked]).toEqual([false, 1]);
    });
  });
});
