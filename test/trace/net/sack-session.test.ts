import { describe, expect, it } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { Millis } from '../../../src/base/time.js';
import { ECONNREFUSED } from '../../../src/os/io.js';
import { SackSession } from '../../../src/trace/net/sack-session.js';
import { TcpOptions } from '../../../src/wire/tcp.js';
import { LOCAL, TARGET } from '../engine/paths.js';
import { SimIo } from '../engine/sim-io.js';
import { captured, ip, tcp } from './packets.js';

const target = new SocketAddress(TARGET, 443);

function options(change: Partial<TcpOptions>): TcpOptions {
  return Object.assign(new TcpOptions(), change);
}

/** A session whose connection ends with `result` at once, or never (undefined), with these packets before. */
function setup(result: number | undefined, packets: readonly Uint8Array[] = []): { io: SimIo; session: SackSession } {
  const io = new SimIo(LOCAL, () => []);
  const connection = {
    local: new SocketAddress(LOCAL, 40_000),
    connect: (done: (result: number) => void) => {
      for (const packet of packets) session.receive(captured(packet)!);
      if (result !== undefined) done(result);
    },
    close: () => undefined,
  };
  const session = new SackSession(io, connection, target);
  return { io, session };
}

const synAck = (change: Partial<TcpOptions> = {}, from = TARGET, flags = 0x12): Uint8Array =>
  tcp(
    { from, to: LOCAL },
    {
      sourcePort: 443,
      destinationPort: 40_000,
      sequence: 0xffffffff,
      acknowledgment: 77,
      flags,
      options: options({ mss: 1460, ...change }),
    },
  );

describe('the connection of SACK probes', () => {
  it('gives the numbers of its handshake, with timestamps where there are any', async () => {
    const plain = setup(0, [synAck({ sackPermitted: true })]);
    expect(await plain.session.open(Millis(1000))).toEqual({ sequence: 77, acknowledgment: 0 });
    const stamped = { sackPermitted: true, hasTimestamps: true, timestampValue: 5, timestampEcho: 6 };
    const { session } = setup(0, [synAck(stamped)]);
    expect((await session.open(Millis(1000))).timestamps).toEqual({ value: 5, echo: 6 });
  });

  it('takes nobody else’s handshake, and no other segment', async () => {
    const others = [synAck({ sackPermitted: true }, ip('203.0.113.10')), synAck({ sackPermitted: true }, TARGET, 0x10)];
    const { io, session } = setup(0, others);
    await expect(io.drive(session.open(Millis(1000)))).rejects.toMatchObject({
      message: 'sackDriver readHandshake timed out',
      supported: true,
    });
    expect(io.time).toBe(500);
  });

  it('waits for a handshake that is read after the connection is reported', async () => {
    const { io, session } = setup(0);
    const opening = session.open(Millis(1000));
    setImmediate(() => session.receive(captured(synAck({ sackPermitted: true }))!));
    expect(await io.drive(opening)).toMatchObject({ sequence: 77 });
  });

  it('says why there is none', async () => {
    await expect(setup(0, [synAck()]).session.open(Millis(1000))).rejects.toMatchObject({
      message: 'SACK not supported by the target 203.0.113.9:443 (missing SACK-permitted option)',
      supported: false,
    });
    await expect(setup(-ECONNREFUSED).session.open(Millis(1000))).rejects.toMatchObject({
      message: 'sack traceroute failed to dial: dial tcp 203.0.113.9:443: connection refused',
      supported: false,
    });
    const late = setup(undefined);
    await expect(late.io.drive(late.session.open(Millis(700)))).rejects.toMatchObject({
      message: 'sack traceroute failed to dial: dial tcp 203.0.113.9:443: i/o timeout',
    });
    expect(late.io.time).toBe(700);
  });
});
