/** SACK runs from the options to their errors, over a connection of the test. */
import { describe, expect, it } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { SallyportError } from '../../../src/base/error.js';
import { Tracer } from '../../../src/trace/engine/tracer.js';
import type { TcpMethod, TraceRun } from '../../../src/trace/types.js';
import { TcpOptions } from '../../../src/wire/tcp.js';
import { tcp, timeExceeded } from '../net/packets.js';
import { LOCAL, options, router, rtt, shown, TARGET } from './paths.js';
import { type Network, SimIo } from './sim-io.js';

const PORT = 443;
const BASE = 1_001;
const SYN_ACK = 0x12;
const ACK = 0x10;

const segment = (local: number, flags: number, fields: Partial<TcpOptions>, acknowledgment: number): Uint8Array => {
  const tcpOptions = Object.assign(new TcpOptions(), { sackEdges: undefined, ...fields });
  const made = new TcpOptions();
  const { sackEdges, ...plain } = tcpOptions;
  Object.assign(made, plain);
  if (sackEdges !== undefined) made.sackEdges.set(sackEdges);
  const ends = { from: TARGET, to: LOCAL };
  return tcp(ends, { sourcePort: PORT, destinationPort: local, sequence: 5_000, acknowledgment, flags, options: made });
};

/** A host whose connections succeed with the handshake of the test. */
class SessionIo extends SimIo {
  handshake: Partial<TcpOptions> = { sackPermitted: true };
  failure: SallyportError | undefined;

  override session(): never {
    if (this.failure !== undefined) throw this.failure;
    const local = new SocketAddress(LOCAL, 45_000);
    const connection = {
      local,
      connect: (done: (result: number) => void) => {
        this.deliver(segment(local.port, SYN_ACK, this.handshake, BASE));
        done(0);
      },
      close: () => undefined,
    };
    return connection as never;
  }
}

/** Three routers, and a target that acknowledges as told. */
const network =
  (acknowledge: Partial<TcpOptions>): Network =>
  (probe) =>
    probe.ttl < 4
      ? [{ after: rtt(probe.ttl), packet: timeExceeded({ from: router(probe.ttl), to: LOCAL }, probe.bytes) }]
      : [
          {
            after: rtt(4),
            packet: segment(probe.packet.sourcePort, probe.packet.sequence === 0 ? 0x14 : ACK, acknowledge, BASE),
          },
        ];

async function trace(io: SessionIo, tcpMethod: TcpMethod): Promise<TraceRun> {
  const tracer = new Tracer(io, new SeededEntropy(7));
  const wish = options({ protocol: 'tcp', tcpMethod, port: PORT, maxTtl: 6 });
  const ending = (async () => {
    for await (const event of tracer.run(wish, new AbortController().signal))
      if (event.kind === 'done') return event.run;
    throw new Error('no result');
  })();
  return await io.drive(ending);
}

describe('a run inside a connection', () => {
  it('finds its path, and the lowest TTL that arrived', async () => {
    const sackEdges = new Uint32Array(8);
    sackEdges.set([BASE + 4, BASE + 5]);
    const run = await trace(new SessionIo(LOCAL, network({ sackCount: 1, sackEdges } as Partial<TcpOptions>)), 'sack');
    expect(shown(run)).toEqual([1, 2, 3].map((ttl) => router(ttl).toString()).concat(TARGET.toString()));
    expect(run).toMatchObject({ reached: true, tcpMethod: 'sack' });
  });

  it('fails where the target acknowledges without SACK blocks', async () => {
    await expect(trace(new SessionIo(LOCAL, network({})), 'sack')).rejects.toMatchObject({
      code: 'UNKNOWN',
      message: 'SACK not supported for this target/source: endpoint returned SACK-permitted but found no SACK options',
    });
  });

  it('fails where the handshake permits none', async () => {
    const io = Object.assign(new SessionIo(LOCAL, network({})), { handshake: {} });
    await expect(trace(io, 'sack')).rejects.toMatchObject({
      message: `SACK not supported for this target/source: SACK not supported by the target ${TARGET}:443 (missing SACK-permitted option)`,
    });
  });

  it('is none where something else fails, and SYNs do not take its place', async () => {
    const failure = new SallyportError('environment', 'ENETUNREACH', 'no way there');
    const message = 'SACK traceroute failed fatally, not falling back: no way there';
    const io = (): SessionIo => Object.assign(new SessionIo(LOCAL, network({})), { failure });
    await expect(trace(io(), 'prefer_sack')).rejects.toMatchObject({ code: 'NETUNREACH', message });
    await expect(trace(io(), 'sack')).rejects.toMatchObject({ code: 'NETUNREACH', message: 'no way there' });
  });

  it('is not made of connection attempts where the system has SYNs', async () => {
    await expect(trace(new SessionIo(LOCAL, network({})), 'syn_socket')).rejects.toMatchObject({
      code: 'UNKNOWN',
      message: 'syn_socket: not implemented or supported on unix',
    });
  });
});
