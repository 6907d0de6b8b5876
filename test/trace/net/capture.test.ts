import { describe, expect, it } from 'vitest';
import { Capture, LISTENERS_MAX } from '../../../src/trace/net/capture.js';
import { LOCAL, router, TARGET } from '../engine/paths.js';
import { SimIo } from '../engine/sim-io.js';
import { icmp, ip, tcp, timeExceeded, udp } from './packets.js';

const back = { from: TARGET, to: LOCAL };
const out = { from: LOCAL, to: TARGET };
const nobody = { receive: () => undefined };

function setup(): {
  io: SimIo;
  capture: Capture;
  heard: string[];
  listener: (name: string) => { receive: () => void };
} {
  const io = new SimIo(LOCAL, () => []);
  const heard: string[] = [];
  return { io, capture: new Capture(io), heard, listener: (name) => ({ receive: () => heard.push(name) }) };
}

describe('the shared capture', () => {
  it('gives every packet to whom it belongs, and to nobody else', () => {
    const { io, capture, heard, listener } = setup();
    capture.listen('udp', 4, 500, listener('udp 500'));
    capture.listen('tcp', 4, 500, listener('tcp 500'));
    capture.listen('udp', 6, 500, listener('udp6 500'));
    capture.listen('echo', 4, 500, listener('echo 500'));
    const six = { from: ip('2001:db8::9'), to: ip('2001:db8::1') };
    const fields = { sourcePort: 443, sequence: 1, acknowledgment: 1, flags: 0x12 };
    io.deliver(udp(back, 53, 500, new Uint8Array(2)));
    io.deliver(tcp(back, { ...fields, destinationPort: 500 }));
    io.deliver(udp(six, 53, 500, new Uint8Array(2)));
    io.deliver(icmp(back, 0, 0, 500 * 65_536 + 1, new Uint8Array(1)));
    io.deliver(timeExceeded({ from: router(1), to: LOCAL }, udp(out, 500, 33_434, new Uint8Array(8))));
    io.deliver(timeExceeded({ from: router(1), to: LOCAL }, icmp(out, 8, 0, 500 * 65_536 + 1, new Uint8Array(1))));
    expect(heard).toEqual(['udp 500', 'tcp 500', 'udp6 500', 'echo 500', 'udp 500', 'echo 500']);
    io.deliver(udp(back, 53, 501, new Uint8Array(2)));
    io.deliver(icmp(back, 8, 0, 500 * 65_536, new Uint8Array(1)));
    io.deliver(new Uint8Array(40));
    expect(heard).toHaveLength(6);
    expect(capture.counters).toEqual({ delivered: 6, foreign: 2, noise: 1 });
  });

  it('offers errors about foreign TCP ports to those that know sequence numbers', () => {
    const { io, capture, heard, listener } = setup();
    capture.listen('tcp', 4, 500, listener('strict'));
    const end = capture.listen('tcp', 4, 501, listener('loose'), true);
    const probe = tcp(out, { sourcePort: 9, destinationPort: 443, sequence: 1, acknowledgment: 0, flags: 2 });
    io.deliver(timeExceeded({ from: router(1), to: LOCAL }, probe));
    expect(heard).toEqual(['loose']);
    end();
    io.deliver(timeExceeded({ from: router(1), to: LOCAL }, probe));
    expect(heard).toEqual(['loose']);
  });

  it('lets the kernel’s filter follow the ports, and closes with the last listener', () => {
    const { io, capture } = setup();
    const one = capture.listen('udp', 4, 500, nobody);
    const two = capture.listen('tcp', 6, 600, nobody);
    const echo = capture.listen('echo', 4, 700, nobody);
    expect(io.filters).toEqual([
      { kind: 'icmp' },
      { kind: 'ports', ports: [500] },
      { kind: 'ports', ports: [500, 600] },
    ]);
    one();
    two();
    expect(io.open).toBe(1);
    echo();
    expect(io.open).toBe(0);
    capture.listen('udp', 4, 501, nobody);
    expect(io.filters.slice(3)).toEqual([{ kind: 'icmp' }, { kind: 'ports', ports: [501] }]);
  });

  it('serves two listeners of one port, and refuses one too many', () => {
    const { io, capture, heard, listener } = setup();
    const first = capture.listen('udp', 4, 500, listener('first'));
    capture.listen('udp', 4, 500, listener('second'));
    io.deliver(udp(back, 53, 500, new Uint8Array(2)));
    first();
    io.deliver(udp(back, 53, 500, new Uint8Array(2)));
    expect(heard).toEqual(['first', 'second', 'second']);
    expect(capture.isFree('udp', 4, 500)).toBe(false);
    expect(capture.isFree('udp', 6, 500)).toBe(true);
    const { capture: full } = setup();
    for (let i = 0; i < LISTENERS_MAX; i++) full.listen('echo', 4, i, nobody);
    expect(() => full.listen('echo', 4, 60_000, nobody)).toThrow(expect.objectContaining({ code: 'TRACE_LIMIT' }));
  });
});
