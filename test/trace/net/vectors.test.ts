import { describe, expect, it } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { IcmpMethod } from '../../../src/trace/net/icmp.js';
import { Probe } from '../../../src/trace/net/probe.js';
import { SackMethod } from '../../../src/trace/net/sack.js';
import { writeSegment } from '../../../src/trace/net/segment.js';
import { UdpMethod } from '../../../src/trace/net/udp.js';
import { Arena } from '../../../src/wire/arena.js';
import { TCP_SYN, TcpOptions } from '../../../src/wire/tcp.js';
import { ip, text } from './packets.js';

const shared = { tos: 0, paris: false };
const ends = (port: number, source = 12_345): { source: SocketAddress; destination: SocketAddress } => ({
  source: new SocketAddress(ip('1.2.3.4'), source),
  destination: new SocketAddress(ip('5.6.7.8'), port),
});
const ends6 = (port: number, source = 12_345): { source: SocketAddress; destination: SocketAddress } => ({
  source: new SocketAddress(ip('2001:db8::1'), source),
  destination: new SocketAddress(ip('2001:db8::2'), port),
});
const arena = new Arena(4096);
const bytes = (length: number): string => text(arena.bytes.subarray(0, length));
const probe = new Probe(4, 0, 0, 0);

describe('bytes of probes', () => {
  it('TCP SYN', () => {
    const length = writeSegment(arena, {
      ...ends(80),
      ttl: 64,
      tos: 0,
      identification: 41_821,
      dontFragment: false,
      sequence: 1000,
      acknowledgment: 0,
      flags: TCP_SYN,
      options: new TcpOptions(),
      payload: 0,
      firstByte: 0,
    });
    expect(bytes(length)).toBe('45000028a35d00004006c75f010203040506070830390050000003e80000000050020400675e0000');
  });

  it('UDP over IPv4 and IPv6', () => {
    expect(bytes(new UdpMethod({ ...shared, ...ends(33_434) }).write(probe, arena))).toBe(
      '45000024a36140000411c35401020304050607083039829a0010bae34e534d4e4300a361',
    );
    expect(bytes(new UdpMethod({ ...shared, ...ends6(33_434) }).write(probe, arena))).toBe(
      '600000000011110420010db800000000000000000000000120010db80000000000000000000000023039829a001171464e534d4e434e534d4e',
    );
  });

  it('ICMP and ICMPv6 echo requests', () => {
    expect(bytes(new IcmpMethod({ ...shared, ...ends(0, 0) }, 1).write(probe, arena))).toBe(
      '4500001d000100000401a6cc01020304050607080800f3fa0001000404',
    );
    expect(bytes(new IcmpMethod({ ...shared, ...ends6(0, 0) }, 1).write(probe, arena))).toBe(
      '6000000000093a0420010db800000000000000000000000120010db8000000000000000000000002800020420001000404',
    );
  });

  it('a byte inside a TCP connection', () => {
    const session = { sequence: 1001, acknowledgment: 5001 };
    const method = new SackMethod({ ...shared, ...ends(443) }, session, () => undefined);
    expect(bytes(method.write(probe, arena))).toBe(
      '45000029a35d00000406035f0102030405060708303901bb000003ed00001389501804004e4e000004',
    );
  });

  it('with timestamps ahead of the handshake’s', () => {
    const timestamps = { value: 0x01020304, echo: 0xfffffff0 };
    const method = new SackMethod(
      { ...shared, ...ends(443) },
      { sequence: 1001, acknowledgment: 5001, timestamps },
      () => undefined,
    );
    const length = method.write(probe, arena);
    expect(bytes(length).slice(80, 104)).toBe('0101080a0000002601020304');
    expect(length).toBe(53);
  });

  it('of a wanted size fill it with zeros and ask not to be fragmented', () => {
    const large = new Probe(4, 0, 0, 1400);
    for (const method of [
      new UdpMethod({ ...shared, ...ends(33_434) }),
      new IcmpMethod({ ...shared, ...ends(0, 0) }, 9),
      new UdpMethod({ ...shared, ...ends6(33_434) }),
      new IcmpMethod({ ...shared, ...ends6(0, 0) }, 9),
    ]) {
      arena.bytes.fill(0xaa);
      expect(method.write(large, arena)).toBe(1400);
      if (method.source.ip.isV4) expect(arena.bytes[6]! & 0x40).toBe(0x40);
    }
  });

  it('carry the wanted TOS and traffic class', () => {
    new UdpMethod({ tos: 0xb8, paris: false, ...ends(33_434) }).write(probe, arena);
    expect(arena.bytes[1]).toBe(0xb8);
    new UdpMethod({ tos: 0xb8, paris: false, ...ends6(33_434) }).write(probe, arena);
    expect(text(arena.bytes.subarray(0, 2))).toBe('6b80');
  });

  it('keep the ICMP checksum in paris mode, and change it with the flow', () => {
    const sums = (flow: number): Set<string> => {
      const method = new IcmpMethod({ tos: 0, paris: true, ...ends(0, 0) }, 77);
      const out = new Set<string>();
      for (let ttl = 1; ttl <= 255; ttl++) {
        for (const index of [0, 1, 2]) {
          method.write(new Probe(ttl, index, flow, 0), arena);
          out.add(text(arena.bytes.subarray(22, 24)));
        }
      }
      return out;
    };
    const all = new Set<string>();
    for (const flow of [0, 1, 2, 3]) {
      expect(sums(flow).size).toBe(1);
      for (const sum of sums(flow)) all.add(sum);
    }
    expect(all.size).toBe(4);
  });
});
