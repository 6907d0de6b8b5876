import { describe, expect, it } from 'vitest';
import { IpAddress } from '../../../src/base/address.js';
import { Hours, instantAt, later, Minutes, Seconds } from '../../../src/base/time.js';
import { NameTracker } from '../../../src/engine/names/tracker.js';
import { createCrypto } from '../../../src/os/crypto.js';
import { clientHello, cryptoFrame, hex, initialPacket, padded, records } from './hellos.js';

const crypto = createCrypto();
const T0 = instantAt(0);
const ip = (text: string) => IpAddress.parse(text)!;
const A = ip('192.0.2.1');
const B = ip('2001:db8::1');
const at = (seconds: number) => later(T0, Seconds(seconds));

function hello(shape: Parameters<typeof clientHello>[0]): Uint8Array {
  return records(clientHello(shape));
}

describe('NameTracker', () => {
  it('knows an address by the name it was answered for last, until that expires', () => {
    const tracker = new NameTracker({ crypto });
    expect(tracker.record(T0, 'A.Example.', [A, B], Seconds(30), 'dns')).toBe(true);
    expect(tracker.nameOf(T0, B)).toEqual({ host: 'a.example', source: 'dns', others: 0, outer: false });
    tracker.record(at(1), 'b.example', [A], Seconds(10), 'resolver');
    expect(tracker.nameOf(at(2), A)).toMatchObject({ host: 'b.example', source: 'resolver', others: 1 });
    expect(tracker.nameOf(at(11), A)).toMatchObject({ host: 'a.example', others: 0 });
    expect(tracker.nameOf(at(30), A)).toBeUndefined();
    expect(tracker.size).toBe(2);
    tracker.expire(at(30));
    expect(tracker.size).toBe(0);
    expect(tracker.record(T0, '192.0.2.9', [A], undefined, 'hook')).toBe(false);
  });

  it('replaces a record of the same name and address, whatever its source, and bounds its time', () => {
    const tracker = new NameTracker({ crypto });
    tracker.record(T0, 'a.example', [A], Seconds(300), 'dns');
    tracker.record(T0, 'a.example', [A], Seconds(5), 'hook');
    expect(tracker.nameOf(at(4), A)).toMatchObject({ source: 'hook', others: 0 });
    expect(tracker.nameOf(at(5), A)).toBeUndefined();
    tracker.record(T0, 'a.example', [A], Seconds(0), 'dns');
    expect(tracker.nameOf(instantAt(999_999), A)).toBeDefined();
    expect(tracker.nameOf(at(1), A)).toBeUndefined();
    tracker.record(T0, 'a.example', [A], Hours(1000), 'dns');
    expect(tracker.nameOf(later(T0, Hours(24)), A)).toBeUndefined();
    tracker.record(T0, 'a.example', [A], undefined, 'dns');
    expect(tracker.nameOf(instantAt(Minutes(10) - 1), A)).toBeDefined();
    expect(tracker.nameOf(instantAt(Minutes(10)), A)).toBeUndefined();
  });

  it('lets a fake address stand for one name only', () => {
    const tracker = new NameTracker({ crypto });
    for (const host of ['old.example', 'new.example']) tracker.record(T0, host, [A], undefined, 'fake-ip');
    expect(tracker.nameOf(T0, A)).toMatchObject({ host: 'new.example', others: 0 });
  });

  it('holds a bounded number of addresses and of names for each', () => {
    const tracker = new NameTracker({ crypto, addresses: 3 });
    for (let i = 1; i <= 3; i++) tracker.record(T0, `n${i}.example`, [ip(`10.0.0.${i}`)], undefined, 'dns');
    tracker.record(T0, 'again.example', [ip('10.0.0.1')], undefined, 'dns');
    tracker.record(T0, 'n4.example', [ip('10.0.0.4')], undefined, 'dns');
    expect([tracker.size, tracker.evicted]).toEqual([3, 1]);
    expect(tracker.nameOf(T0, ip('10.0.0.2'))).toBeUndefined();
    expect(tracker.nameOf(T0, ip('10.0.0.1'))).toMatchObject({ host: 'again.example', others: 1 });
    for (let i = 0; i < 20; i++) tracker.record(T0, `m${i}.example`, [A], undefined, 'dns');
    expect(tracker.nameOf(T0, A)).toMatchObject({ host: 'm19.example', others: 7 });
    expect(tracker.isKnownAs(T0, A, 'm11.example')).toBe(false);
  });
});

describe('FlowName', () => {
  it('takes the name in the hello before the one of the address, and keeps it', () => {
    const tracker = new NameTracker({ crypto });
    tracker.record(T0, 'cdn-one.example', [A], undefined, 'dns');
    tracker.record(T0, 'cdn-two.example', [A], undefined, 'dns');
    const flow = tracker.follow(T0, A);
    expect(flow.toString()).toBe('cdn-two.example (+1)');
    const bytes = hello({ name: 'cdn-one.example', protocols: ['h2'] });
    expect(flow.onStream(T0, bytes, 0, 20)).toBe(false);
    expect(flow.held).toBeGreaterThan(0);
    expect(flow.onStream(T0, bytes, 20, bytes.length - 20)).toBe(true);
    expect(flow.name).toEqual({ host: 'cdn-one.example', source: 'tls', others: 0, outer: false });
    expect([flow.hello?.protocols, flow.isWatching, flow.held, flow.toString()]).toEqual([
      ['h2'],
      false,
      0,
      'cdn-one.example',
    ]);
    tracker.record(T0, 'later.example', [A], undefined, 'dns');
    expect(flow.name?.host).toBe('cdn-one.example');
    expect(flow.onStream(T0, bytes, 0, bytes.length)).toBe(false);
  });

  it('learns it from QUIC, and asks nothing of other datagrams', () => {
    const tracker = new NameTracker({ crypto });
    const message = clientHello({ name: 'quic.example', protocols: ['h3'] });
    const packet = initialPacket({
      id: hex('0102030405060708'),
      payload: padded(cryptoFrame(message, 0, message.length)),
    });
    const flow = tracker.follow(T0, B);
    expect(flow.onDatagram(T0, packet, 0, packet.length)).toBe(true);
    expect(flow.name).toMatchObject({ host: 'quic.example', source: 'quic' });
    const other = tracker.follow(T0, B);
    expect(other.onDatagram(T0, new Uint8Array(100), 0, 100)).toBe(false);
    expect([other.isWatching, other.name]).toEqual([false, undefined]);
  });

  it('with an encrypted hello shows the outer name only when there is no better one, and says so', () => {
    const tracker = new NameTracker({ crypto });
    const bytes = hello({ name: 'public.example', encrypted: true });
    const unknown = tracker.follow(T0, A);
    unknown.onStream(T0, bytes, 0, bytes.length);
    expect(unknown.name).toEqual({ host: 'public.example', source: 'tls', others: 0, outer: true });
    expect(unknown.toString()).toBe('public.example (outer)');
    tracker.record(T0, 'secret.example', [A], undefined, 'dns');
    const known = tracker.follow(T0, A);
    expect(known.onStream(T0, bytes, 0, bytes.length)).toBe(false);
    expect(known.name).toMatchObject({ host: 'secret.example', outer: false });
    expect(known.hello?.encrypted).toBe(true);
    // Browsers send the extension without meaning: a name the address was answered for is the name.
    tracker.record(T0, 'public.example', [A], undefined, 'dns');
    const greased = tracker.follow(T0, A);
    greased.onStream(T0, bytes, 0, bytes.length);
    expect(greased.name).toMatchObject({ host: 'public.example', source: 'tls', outer: false });
  });

  it('stops watching five seconds after the first bytes and when there is no hello', () => {
    const tracker = new NameTracker({ crypto });
    const bytes = hello({ name: 'slow.example' });
    const slow = tracker.follow(T0, A);
    slow.onStream(at(20), bytes, 0, 10);
    slow.onStream(at(25), bytes, 10, 10);
    expect(slow.isWatching).toBe(true);
    slow.onStream(instantAt(Seconds(25) + 1), bytes, 20, 10);
    expect([slow.isWatching, slow.held]).toEqual([false, 0]);
    const http = tracker.follow(T0, A);
    http.onStream(T0, Uint8Array.from(Buffer.from('GET /')), 0, 5);
    expect(http.isWatching).toBe(false);
  });
});
