import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toDot } from '../../../src/trace/format/dot.js';
import { pathGraph } from '../../../src/trace/format/graph.js';
import { PathTable } from '../../../src/trace/format/path-table.js';
import { toCsv, toMarkdown } from '../../../src/trace/format/rows.js';
import { toSvg } from '../../../src/trace/format/svg.js';
import { describeReply, renderTable, sparkline } from '../../../src/trace/format/table.js';
import { milliseconds, percent, printable, shorten } from '../../../src/trace/format/text.js';
import type { TraceResult } from '../../../src/trace/result.js';
import { hop, ip, reply, run } from '../fixtures.js';

const result = (more: Partial<TraceResult> = {}): TraceResult => ({
  id: 'x',
  protocol: 'udp',
  hostname: 'target.example',
  port: 33_434,
  publicIp: '',
  runs: [{ id: 'y', run: run([hop(1, '10.0.0.1', 1), hop(2), hop(3, '198.51.100.2', 3)]) }],
  endToEnd: { rtts: [3, 0], method: 'udp' },
  names: new Map(),
  networks: new Map(),
  ...more,
});
/** A 3 × 2 diamond: one router, three ways, two ways, the destination. */
const diamond = result({
  runs: [
    {
      id: 'y',
      run: run([hop(1, '10.0.0.1', 1)], {
        multipath: {
          confidence: 0.95,
          probes: 80,
          nodes: [
            { ttl: 1, address: ip('10.0.0.1'), flows: [0], next: [1, 2, 3], rtts: [1, 3] },
            { ttl: 2, address: ip('10.0.1.1'), flows: [0], next: [4], rtts: [2] },
            { ttl: 2, address: ip('10.0.1.2'), flows: [1], next: [4, 5], rtts: [2] },
            { ttl: 2, address: undefined, flows: [2], next: [5], rtts: [] },
            { ttl: 3, address: ip('10.0.2.1'), flows: [0], next: [6], rtts: [3] },
            { ttl: 3, address: ip('10.0.2.2'), flows: [1], next: [6], rtts: [3] },
            { ttl: 4, address: ip('198.51.100.2'), flows: [0], next: [], rtts: [4] },
          ],
        },
      }),
    },
  ],
});

describe('rows of hops', () => {
  it('count what was sent and received, and the times', () => {
    const table = new PathTable();
    [10, 30, 20].forEach((rtt, i) => {
      table.finish(i, run([hop(1, '10.0.0.1', rtt)]));
    });
    table.finish(3, run([hop(1)]));
    expect(table.rows()[0]).toMatchObject({
      sent: 4,
      received: 3,
      loss: 0.25,
      last: 20,
      avg: 20,
      best: 10,
      worst: 30,
      jitter: 15,
      history: [10, 30, 20, 0],
    });
  });

  it('count no loss while a run is under way, and replace what they knew of it', () => {
    const table = new PathTable();
    table.hop(0, { ttl: 1, sent: 3, replies: [], rateLimited: false });
    expect(table.rows()[0]).toMatchObject({ sent: 0, loss: 0 });
    table.hop(0, { ttl: 1, sent: 3, replies: [reply('10.0.0.1', 1)], rateLimited: false });
    table.hop(0, { ttl: 1, sent: 3, replies: [reply('10.0.0.1', 1), reply('10.0.0.1', 2)], rateLimited: false });
    expect(table.rows()[0]).toMatchObject({ sent: 2, received: 2, loss: 0 });
    table.finish(
      0,
      run([{ ttl: 1, sent: 3, replies: [reply('10.0.0.1', 1), reply('10.0.0.1', 2)], rateLimited: true }]),
    );
    expect(table.rows()[0]).toMatchObject({ sent: 3, received: 2, rateLimited: true });
  });

  it('end with the destination, have the most frequent address first, and remember so much', () => {
    const table = new PathTable();
    for (let i = 0; i < 200; i++) table.finish(i, run([hop(1, i % 3 === 0 ? '10.0.0.2' : '10.0.0.1', 1)]));
    expect(table.rows()[0]!.addresses.map(String)).toEqual(['10.0.0.1', '10.0.0.2']);
    expect(table.rows()[0]!.history).toHaveLength(60);
    table.hop(0, hop(1, '10.0.0.9', 1, { isDestination: true }));
    table.hop(0, hop(2, '10.0.0.9', 1, { isDestination: true }));
    expect(table.rows()).toHaveLength(1);
    table.drop(0);
    expect(table.rows()[0]!.isDestination).toBe(false);
  });
});

describe('the table', () => {
  const view = (source: TraceResult, more: object = {}): Parameters<typeof renderTable>[0] => {
    const table = new PathTable();
    source.runs.forEach((one, i) => {
      table.finish(i, one.run);
    });
    return {
      hostname: source.hostname,
      protocol: source.protocol,
      destination: { address: ip('198.51.100.2'), port: 33_434 },
      rows: table.rows(),
      endToEnd: source.endToEnd.rtts,
      endToEndMethod: 'udp',
      names: source.names,
      networks: source.networks,
      location: false,
      hidden: () => false,
      state: 'done',
      ...more,
    };
  };

  it('shows silent hops, loss and the end', () => {
    expect(renderTable(view(result()), 80)).toEqual([
      'trace to target.example (198.51.100.2), udp port 33434',
      'HOP NAME              LOSS   LAST    AVG   BEST  WORST    JTR',
      '  1 10.0.0.1            0%   1.00   1.00   1.00   1.00   0.00 █',
      '  2 *                 100%                                    ×',
      '  3 198.51.100.2        0%   3.00   3.00   3.00   3.00   0.00 █',
      'end to end: 2 sent, 50% lost, best 3.00, avg 3.00, worst 3.00, jitter 0.00 ms',
      'done',
    ]);
  });

  it('fits any terminal, whatever names and addresses there are', () => {
    const names = new Map([['10.0.0.1', ['a-very-long-name.of-a-router.in-some-city.example.net.']]]);
    const networks = new Map([['10.0.0.1', { asn: 4_200_000_000, country: 'NL' }]]);
    const long = result({
      names,
      networks,
      runs: [{ id: 'y', run: run([hop(1, '10.0.0.1', 123_456), hop(2, '2001:db8:1111:2222:3333:4444:5555:6666', 1)]) }],
    });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 250 }), fc.boolean(), (columns, location) => {
        for (const line of renderTable(view(long, { location }), columns))
          expect(line.length).toBeLessThanOrEqual(columns);
      }),
    );
    expect(renderTable(view(long, { location: true }), 80).join('\n')).toContain('AS4200000000 NL');
  });

  it('tells what answers said beside their times', () => {
    const labels = {
      mpls: [{ label: 100_004, trafficClass: 0, bottom: true, ttl: 1 }],
      interfaces: [{ role: 'incoming' as const, name: 'eth0', mtu: 1500 }],
    };
    const told = describeReply(
      reply('10.0.0.1', 1, { nat: true, kind: 'unreachable', icmp: { type: 3, code: 13 }, extensions: labels }),
    );
    expect(told).toEqual([
      'unreachable (ICMP type 3, code 13)',
      'a NAT before this hop rewrote the probe',
      'MPLS 100004 (TTL 1)',
      'incoming interface eth0 MTU 1500',
    ]);
    const limited = result({
      runs: [{ id: 'y', run: run([{ ...hop(1, '10.0.0.1', 1), sent: 2, rateLimited: true, mtu: 1400 }]) }],
    });
    const lines = renderTable(view(limited, { endToEndMethod: 'icmp' }), 80);
    expect(lines[2]).toContain('~50%');
    expect(lines).toContain('hop 1: packets of 1400 bytes reach it');
    expect(lines).toContain('~ the router limits its answers: no packets are lost there');
    expect(lines).toContain('(by icmp: hosts limit how often they answer udp)');
  });

  it('draws the latest values against the highest', () => {
    expect(sparkline([1, 2, 4, 8, 0], 5)).toBe('▂▃▅█×');
    expect(sparkline([1, 2, 4, 8], 2)).toBe('▅█');
    expect([sparkline([], 5), sparkline([1], 0), sparkline([0], 3)]).toEqual(['', '', '×']);
  });
});

describe('lines for programs', () => {
  it('are CSV whatever names there are', () => {
    const names = new Map([['10.0.0.1', ['=cmd("x"),\n\u001b[31mred.']]]);
    const lines = toCsv(result({ names }), false).split('\n');
    expect(lines).toHaveLength(4);
    expect(lines[1]).toBe('1,10.0.0.1,"\'=cmd(""x""),??[31mred.",,,,1,1,0,1,1,1,1,0,false,false');
    expect(lines[2]).toBe('2,,,,,,1,0,1,,,,,,false,false');
    expect(toCsv(result(), true).split('\n')[1]).toBe('1,,,,,,1,1,0,1,1,1,1,0,false,false');
  });

  it('are Markdown whatever names there are', () => {
    const names = new Map([['10.0.0.1', ['a|b<script>`*']]]);
    expect(toMarkdown(result({ names }), false).split('\n').slice(2, 4)).toEqual([
      '| 1 | 10.0.0.1 | a\\|b\\<script>\\`\\* |  | 0% | 1.00 | 1.00 | 1.00 | 1.00 | 0.00 |',
      '| 2 | * |  |  | 100% |  |  |  |  |  |',
    ]);
  });
});

describe('graphs', () => {
  it('join the runs where they share interfaces', () => {
    const two = result({
      runs: [
        { id: 'a', run: run([hop(1, '10.0.0.1', 1), hop(2, '10.0.1.1', 1), hop(3, '198.51.100.2', 1)]) },
        { id: 'b', run: run([hop(1, '10.0.0.1', 3), hop(2, '10.0.1.2', 1), hop(3, '198.51.100.2', 1)]) },
      ],
    });
    expect(pathGraph(two, false).map((node) => [node.ttl, node.address, node.rtt, node.next])).toEqual([
      [1, '10.0.0.1', 2, [1, 3]],
      [2, '10.0.1.1', 1, [2]],
      [3, '198.51.100.2', 1, []],
      [2, '10.0.1.2', 1, [2]],
    ]);
    expect(pathGraph(two, true).map((node) => node.address)).toEqual(['', '', '198.51.100.2', '']);
  });

  it('are drawn by Graphviz’ rules', () => {
    const dot = toDot({ ...diamond, names: new Map([['10.0.0.1', ['a"b\\c\n']]]) }, false).split('\n');
    expect(dot[0]).toBe('digraph trace {');
    expect(dot[3]).toBe('  n0 [label="1: 10.0.0.1\\na\\"b\\\\c?\\n2.00 ms"];');
    expect(dot).toContain('  n3 [label="2: *", style=dashed];');
    expect(dot.filter((line) => line.includes('->'))).toHaveLength(9);
  });

  it('are pictures whose boxes do not overlap and whose text is text', () => {
    const svg = toSvg({ ...diamond, hostname: 'x', names: new Map([['10.0.0.1', ['<script>&"']]]) }, false);
    expect(svg).not.toContain('<script>');
    expect(svg).toContain('&lt;script&gt;&amp;&quot;');
    const boxes = [...svg.matchAll(/<rect x="([\d.]+)" y="([\d.]+)" width="(\d+)" height="(\d+)"/g)].map((match) =>
      match.slice(1).map(Number),
    );
    expect(boxes).toHaveLength(7);
    const [, width, height] = /^<svg [^>]*width="(\d+)" height="(\d+)"/.exec(svg)!.map(Number);
    boxes.forEach(([x, y, w, h], i) => {
      expect(x! + w! <= width! && y! + h! <= height!).toBe(true);
      for (const [otherX, otherY] of boxes.slice(i + 1)) {
        expect(Math.abs(otherX! - x!) >= w! || Math.abs(otherY! - y!) >= h!).toBe(true);
      }
    });
    expect([...svg.matchAll(/<path /g)]).toHaveLength(9);
    expect(toSvg(result({ runs: [] }), false)).toMatch(/^<svg .*<\/svg>$/s);
  });
});

describe('text', () => {
  it('is printable, whatever came from the network', () => {
    expect(printable('a\u001b[2Jb\u202ec\u009b\u2028')).toBe('a?[2Jb?c??');
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => !/[\p{Cc}\p{Cf}]/u.test(printable(text))));
  });

  it('is shortened in the middle', () => {
    expect([shorten('abcdefghij', 5), shorten('abc', 3), shorten('abc', 1), shorten('abc', 0)]).toEqual([
      'ab…ij',
      'abc',
      'a',
      '',
    ]);
  });

  it('has numbers of bounded width', () => {
    expect([0, 9.999, 99.994, 99.996, 999.94, 999.96, 12_345].map(milliseconds)).toEqual([
      '0.00',
      '10.00',
      '99.99',
      '100.0',
      '999.9',
      '1000',
      '12345',
    ]);
    expect([0, 0.005, 0.0994, 0.0996, 1].map(percent)).toEqual(['0%', '0.5%', '9.9%', '10%', '100%']);
  });
});
