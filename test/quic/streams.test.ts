/** Control messages and pushes: order, limits, and what breaking them costs. */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { CloseCode } from '../../src/quic/close.js';
import { MAX_PUSH } from '../../src/quic/push.js';
import { type Certificates, certificates, makeNet, type Net, text, utf8 } from './harness.js';

let certs: Certificates;
beforeAll(async () => {
  certs = await certificates();
});

function open(net: Net) {
  const both = net.establish();
  const control = both.client.openControl();
  return { ...both, control };
}

/** Writes raw bytes to the control stream, past `ControlStream`. */
function raw(net: Net, connection: number, bytes: Uint8Array): void {
  const endpoint = net.client.endpoint;
  for (let at = 0; at < bytes.length; ) {
    const part = bytes.subarray(at, at + endpoint.host.scratch.length);
    endpoint.host.scratch.set(part);
    const taken = endpoint.host.writeStream(connection, 0, part.length);
    if (taken < 0) return;
    at += taken;
    net.run(Millis(10));
  }
}

describe('control messages', () => {
  it('arrive whole and in order, both ways, the largest too', () => {
    const net = makeNet(certs);
    const { control, clientSide, serverSide } = open(net);
    const large = new Uint8Array(65_536).map((_, i) => i & 255);
    expect(control.send(utf8('hello'))).toBe(true);
    expect(control.send(large)).toBe(true);
    expect(control.send(utf8('last'))).toBe(true);
    net.run(Seconds(1));
    expect(serverSide.messages).toEqual([utf8('hello'), large, utf8('last')]);
    for (let i = 0; i < 10; i++) serverSide.control!.send(utf8(`answer ${i}`));
    net.run(Seconds(1));
    expect(clientSide.messages.map(text)).toEqual(Array.from({ length: 10 }, (_, i) => `answer ${i}`));
  });

  it('survive any cutting of the stream', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 3000 }), { minLength: 1, maxLength: 20 }),
        fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 1, maxLength: 20 }),
        (messages, cuts) => {
          const net = makeNet(certs);
          const { client, serverSide } = open(net);
          const bytes = Buffer.concat(
            messages.map((m) => {
              const header = Buffer.alloc(4);
              header.writeUInt32BE(m.length);
              return Buffer.concat([header, m]);
            }),
          );
          for (let at = 0, i = 0; at < bytes.length; i++) {
            const part = bytes.subarray(at, at + cuts[i % cuts.length]!);
            raw(net, client.id, part);
            at += part.length;
          }
          net.run(Millis(100));
          expect(serverSide.messages.map((m) => Buffer.from(m).toString('hex'))).toEqual(
            messages.map((m) => Buffer.from(m).toString('hex')),
          );
        },
      ),
      { numRuns: 20 },
    );
  });

  it('of no bytes or too many are not sent', () => {
    const net = makeNet(certs);
    const { control } = open(net);
    expect(control.send(new Uint8Array(0))).toBe(false);
    expect(control.send(new Uint8Array(65_537))).toBe(false);
    let sent = 0;
    while (control.send(new Uint8Array(60_000))) sent++;
    expect(sent).toBeGreaterThan(15);
    expect(sent).toBeLessThan(30);
  });

  it.each([
    ['of 65,537 bytes', [0, 1, 0, 1]],
    ['of 4 GiB', [255, 255, 255, 255]],
    ['of 0 bytes', [0, 0, 0, 0]],
  ])('%s end the connection', (_name, header) => {
    const net = makeNet(certs);
    const { client, clientSide, serverSide } = open(net);
    raw(net, client.id, Uint8Array.from(header));
    net.run(Seconds(1));
    expect(clientSide.closed).toMatchObject([{ kind: 'peer-application', code: CloseCode.framing }]);
    expect(serverSide.closed).toMatchObject([{ kind: 'local', code: CloseCode.framing }]);
    expect(serverSide.messages).toHaveLength(0);
  });

  it('more than the rate end the connection, a full burst does not', () => {
    const net = makeNet(certs, { server: { messagesPerSecond: 50 } });
    const { control, clientSide, serverSide } = open(net);
    for (let i = 0; i < 50; i++) control.send(utf8('x'));
    net.run(Seconds(2));
    expect(serverSide.messages).toHaveLength(50);
    expect(clientSide.closed).toHaveLength(0);
    for (let i = 0; i < 60; i++) control.send(utf8('y'));
    net.run(Seconds(1));
    expect(serverSide.messages).toHaveLength(100);
    expect(clientSide.closed).toMatchObject([{ kind: 'peer-application', code: CloseCode.messageRate }]);
  });

  it('stop when the receiver closes in the middle of a batch', () => {
    const net = makeNet(certs);
    const { control, server, serverSide } = open(net);
    serverSide.onControlMessage = (now, bytes) => {
      serverSide.messages.push(bytes);
      server.close(now, 3, 'done');
    };
    for (let i = 0; i < 5; i++) control.send(utf8(`${i}`));
    net.run(Seconds(1));
    expect(serverSide.messages).toHaveLength(1);
    expect(serverSide.closed).toMatchObject([{ kind: 'local', code: 3 }]);
  });

  it('the end of the stream ends the connection', () => {
    const net = makeNet(certs);
    const { client, control, clientSide } = open(net);
    control.send(utf8('hello'));
    net.client.endpoint.host.finishStream(client.id, 0);
    net.run(Seconds(1));
    expect(clientSide.closed).toMatchObject([{ code: CloseCode.streamProtocol }]);
  });

  it('a peer never has more than 64 KiB unread', () => {
    const net = makeNet(certs);
    const { client } = open(net);
    // The server is not run: nothing is read there.
    const scratch = net.client.endpoint.host.scratch;
    let accepted = 0;
    for (let i = 0; i < 10; i++)
      accepted += Math.max(0, net.client.endpoint.host.writeStream(client.id, 0, scratch.length));
    expect(accepted).toBe(65_536);
  });
});

describe('pushes', () => {
  it('arrive whole and in the order they were sent, under loss too', () => {
    const net = makeNet(certs);
    const { server, clientSide } = open(net);
    net.path = (_bytes, entropy) => (entropy.unit() < 0.1 ? undefined : Millis(5 + 20 * entropy.unit()));
    const pushes = Array.from({ length: 12 }, (_, i) => new Uint8Array(1 + i * 7_000).fill(i));
    for (const push of pushes) expect(server.push(push)).toBe(true);
    net.run(Seconds(60));
    expect(clientSide.pushes.map((p) => [p[0], p.length])).toEqual(pushes.map((p) => [p[0], p.length]));
  });

  it('of 8 MiB go through, larger ones do not, and the queue is bounded', () => {
    const net = makeNet(certs);
    const { server, clientSide } = open(net);
    net.path = () => Millis(0.1);
    const large = new Uint8Array(MAX_PUSH).fill(3);
    expect(server.push(new Uint8Array(MAX_PUSH + 1))).toBe(false);
    expect([1, 2, 3, 4, 5].map(() => server.push(large))).toEqual([true, true, true, false, false]);
    net.run(Seconds(5));
    expect(clientSide.pushes.map((p) => p.length)).toEqual([MAX_PUSH, MAX_PUSH, MAX_PUSH]);
    expect(clientSide.pushes[2]!.every((byte) => byte === 3)).toBe(true);
  });

  it('go through whichever window is the limit: of the stream, of the connection, or of what is not acknowledged', () => {
    for (const streamWindow of [65_536, 1024 * 1024, 2 * 1024 * 1024]) {
      const net = makeNet(certs, { server: { streamWindow }, client: { streamWindow } });
      const { server, clientSide } = open(net);
      net.path = () => Millis(5);
      expect(server.push(new Uint8Array(MAX_PUSH).fill(3))).toBe(true);
      net.run(Seconds(20));
      expect(clientSide.pushes.map((p) => p.length)).toEqual([MAX_PUSH]);
    }
  });

  it('longer than 8 MiB end the connection of a peer that sends them', () => {
    const net = makeNet(certs);
    const { server, serverSide, clientSide } = open(net);
    net.path = () => Millis(0.1);
    const endpoint = net.server.endpoint;
    const stream = endpoint.host.openStream(server.id, true)!;
    let sent = 0;
    for (let i = 0; i < 20_000 && serverSide.closed.length === 0; i++) {
      sent += Math.max(0, endpoint.host.writeStream(server.id, stream, endpoint.host.scratch.length));
      net.run(Millis(1));
    }
    expect(clientSide.closed).toMatchObject([{ kind: 'local', code: CloseCode.pushTooLong }]);
    expect(sent).toBeLessThan(MAX_PUSH + 200_000);
    expect(clientSide.pushes).toHaveLength(0);
  });

  it('one that is given up is forgotten', () => {
    const net = makeNet(certs);
    const { client, serverSide } = open(net);
    const endpoint = net.client.endpoint;
    const stream = endpoint.host.openStream(client.id, true)!;
    endpoint.host.writeStream(client.id, stream, 100);
    net.run(Millis(50));
    endpoint.host.resetStream(client.id, stream, 1);
    net.run(Millis(50));
    client.push(utf8('next'));
    net.run(Millis(100));
    expect(serverSide.pushes.map(text)).toEqual(['next']);
  });

  it('a second bidirectional stream ends the connection', () => {
    const net = makeNet(certs);
    const { client, clientSide } = open(net);
    const stream = net.client.endpoint.host.openStream(client.id, false)!;
    net.client.endpoint.host.writeStream(client.id, stream, 1);
    net.run(Seconds(1));
    expect(clientSide.closed).toMatchObject([{ kind: 'peer-application', code: CloseCode.streamProtocol }]);
  });
});

describe('pushes to somebody who wants none', () => {
  it('are stopped, nothing of them is kept, and the connection goes on', () => {
    const net = makeNet(certs);
    const { client, control, serverSide, clientSide } = open(net);
    Object.assign(serverSide, { onPush: undefined });
    expect(client.push(new Uint8Array(1_000_000))).toBe(true);
    net.run(Seconds(2));
    expect(client.stats()!.udpBytesOut).toBeLessThan(300_000);
    control.send(utf8('still here'));
    net.run(Seconds(1));
    expect(serverSide.messages.map(text)).toEqual(['still here']);
    expect(clientSide.closed).toHaveLength(0);
  });

  it('may not hold more together than one may', () => {
    const net = makeNet(certs);
    const { client, serverSide } = open(net);
    net.path = () => Millis(0.1);
    const { host } = net.client.endpoint;
    const streams = [0, 1, 2].map(() => host.openStream(client.id, true)!);
    let sent = 0;
    for (let i = 0; i < 20_000 && serverSide.closed.length === 0; i++) {
      for (const stream of streams) sent += Math.max(0, host.writeStream(client.id, stream, host.scratch.length));
      net.run(Millis(1));
    }
    expect(serverSide.closed).toMatchObject([{ kind: 'local', code: CloseCode.pushTooLong }]);
    expect(sent).toBeLessThan(MAX_PUSH + 400_000);
  });
});
