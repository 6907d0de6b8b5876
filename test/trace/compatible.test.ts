import { describe, expect, it } from 'vitest';
import { encodeJson, isPrivate, toCompatible } from '../../src/trace/compatible.js';
import type { TraceResult } from '../../src/trace/result.js';
import { hop, ip, run } from './fixtures.js';

const PLAIN = { skipPrivateHops: false, extended: false };

const EXAMPLE: TraceResult = {
  id: 'q0m1b7wXQ5u7k0d3n8vZ_A',
  protocol: 'udp',
  hostname: '198.51.100.2',
  port: 33434,
  publicIp: '',
  runs: [{ id: 'Jr8l2mXlQd6y1oT0k4bM9w', run: run([hop(1, '192.0.2.2', 0.213401), hop(2, '198.51.100.2', 0.301122)]) }],
  endToEnd: { rtts: [0.31, 0, 0.29, 0.35], method: 'udp' },
  names: new Map([['198.51.100.2', ['end.example.']]]),
  networks: new Map(),
};

/** The documented example, byte for byte as the two programs print it. */
const EXAMPLE_TEXT = `{
  "test_run_id": "q0m1b7wXQ5u7k0d3n8vZ_A",
  "protocol": "udp",
  "source": {
    "public_ip": ""
  },
  "destination": {
    "hostname": "198.51.100.2",
    "port": 33434
  },
  "traceroute": {
    "runs": [
      {
        "run_id": "Jr8l2mXlQd6y1oT0k4bM9w",
        "source": {
          "ip_address": "192.0.2.1",
          "port": 47811
        },
        "destination": {
          "ip_address": "198.51.100.2",
          "port": 33434,
          "reverse_dns": [
            "end.example."
          ]
        },
        "hops": [
          {
            "ttl": 1,
            "ip_address": "192.0.2.2",
            "rtt": 0.213401,
            "reachable": true
          },
          {
            "ttl": 2,
            "ip_address": "198.51.100.2",
            "rtt": 0.301122,
            "reachable": true,
            "reverse_dns": [
              "end.example."
            ]
          }
        ]
      }
    ],
    "hop_count": {
      "avg": 2,
      "min": 2,
      "max": 2
    }
  },
  "e2e_probe": {
    "rtts": [
      0.31,
      0,
      0.29,
      0.35
    ],
    "packets_sent": 4,
    "packets_received": 3,
    "packet_loss_percentage": 0.25,
    "jitter": ${(0.02 + (0.35 - 0.29)) / 2},
    "rtt": {
      "avg": 0.31666666666666665,
      "min": 0.29,
      "max": 0.35
    }
  }
}`;

describe('the compatible form', () => {
  it('of the example is the example', () => {
    const text = encodeJson(toCompatible(EXAMPLE, PLAIN), 2);
    const withoutJitter = (one: string): string => one.replace(/"jitter": [\d.]+/, '');
    expect(withoutJitter(text)).toBe(withoutJitter(EXAMPLE_TEXT));
    expect(toCompatible(EXAMPLE, PLAIN).e2e_probe.jitter).toBeCloseTo(0.04, 12);
  });

  it('has nulls for lists nobody asked to fill, and zeros', () => {
    const empty = toCompatible({ ...EXAMPLE, runs: [], endToEnd: { rtts: [], method: 'udp' } }, PLAIN);
    expect(empty.traceroute).toEqual({ runs: null, hop_count: { avg: 0, min: 0, max: 0 } });
    expect(encodeJson(empty.e2e_probe)).toBe(
      '{"rtts":null,"packets_sent":0,"packets_received":0,"packet_loss_percentage":0,"jitter":0,"rtt":{"avg":0,"min":0,"max":0}}',
    );
  });

  it('has an empty address for a silent hop, and dotted quads for mapped ones', () => {
    const result = { ...EXAMPLE, runs: [{ id: 'x', run: run([hop(1), hop(2, '::ffff:10.0.0.1', 1)]) }] };
    const hops = toCompatible(result, PLAIN).traceroute.runs![0]!.hops;
    expect(encodeJson(hops)).toBe(
      '[{"ttl":1,"ip_address":"","rtt":0,"reachable":false},{"ttl":2,"ip_address":"10.0.0.1","rtt":1,"reachable":true}]',
    );
  });

  it('prefers the destination’s own answer to the first', () => {
    const both = {
      ...hop(1, '10.0.0.1', 1),
      replies: [...hop(1, '10.0.0.1', 1).replies, ...hop(1, '10.0.0.9', 2, { isDestination: true }).replies],
    };
    const result = { ...EXAMPLE, runs: [{ id: 'x', run: run([both]) }] };
    expect(toCompatible(result, PLAIN).traceroute.runs![0]!.hops[0]).toMatchObject({ ip_address: '10.0.0.9', rtt: 2 });
  });

  it('keeps its keys in front when extended', () => {
    const plain = toCompatible(EXAMPLE, PLAIN);
    const extended = toCompatible(EXAMPLE, { ...PLAIN, extended: true });
    const hopKeys = Object.keys(extended.traceroute.runs![0]!.hops[1]!);
    expect(hopKeys.slice(0, 5)).toEqual(Object.keys(plain.traceroute.runs![0]!.hops[1]!));
    expect(extended).toMatchObject(plain);
    expect(extended.traceroute.runs![0]).toMatchObject({ destination_reached: true, end_reason: 'destination' });
    expect(extended.e2e_probe['method']).toBe('udp');
  });
});

describe('without private hops', () => {
  const skipped = { ...PLAIN, skipPrivateHops: true };

  it('blanks them, names included, and counts them still', () => {
    const result = {
      ...EXAMPLE,
      names: new Map([['10.1.2.3', ['inside.example.']]]),
      runs: [{ id: 'x', run: run([hop(1, '192.0.2.2', 1), hop(2, '10.1.2.3', 2)]) }],
    };
    const { traceroute } = toCompatible(result, skipped);
    expect(traceroute.runs![0]!.hops[1]).toEqual({ ttl: 2, ip_address: '', rtt: 0, reachable: false });
    expect(traceroute.hop_count).toEqual({ avg: 2, min: 2, max: 2 });
  });

  it.each([
    ['10.255.255.255', true],
    ['11.0.0.0', false],
    ['172.15.255.255', false],
    ['172.16.0.0', true],
    ['172.31.255.255', true],
    ['172.32.0.0', false],
    ['192.168.0.1', true],
    ['127.0.0.1', false],
    ['100.64.0.1', false],
    ['169.254.0.1', false],
    ['fc00::1', true],
    ['fdff::1', true],
    ['fe80::1', false],
    ['2001:db8::1', false],
  ])('%s is private: %s', (text, expected) => {
    expect(isPrivate(ip(text))).toBe(expected);
  });
});

it('escapes as Go does', () => {
  expect(encodeJson({ 'a<b': '>&\u2028\u2029"' })).toBe('{"a\\u003cb":"\\u003e\\u0026\\u2028\\u2029\\""}');
});
