/** Paths that swallow large segments without a word, and paths that carry larger ones again: RFC 4821 §7, RFC 8899 §5. */
import { describe } from 'vitest';
import { script } from './script.js';

const BBR_OFF = { tcp: { congestion: 'newreno' as const } };
/** All that the window lets go of so many bytes is out, in segments of 1460 bytes. */
const out = (bytes: number): string => `open mss 1460
     write ${bytes}
     -> any
     `;
/** Three timeouts of one large segment; the fourth copy is small. Timeouts: 200, 400, 800 ms. */
const swallowed = `${out(14600)}wait 590ms
     -> any
     count tcp_pmtu_black_holes 0
     wait 1s
     -> any
     count tcp_pmtu_black_holes 1
     `;

describe('a black hole', () => {
  script(
    'the third timeout in a row makes segments small; with an answer the stream goes on in small ones',
    `${swallowed}<- A 1 ack 985
     -> A 985+476 ack 1
     -> A 1461+984 ack 1`,
    BBR_OFF,
  );
  script(
    'in IPv6 they fit 1280',
    `${swallowed}<- A 1 ack 1221
     -> A 1221+220 ack 1
     -> A 1441+1220 ack 1`,
    { ...BBR_OFF, ipv6: true },
  );
  script(
    'one more, and they fit 576',
    `${swallowed}wait 2s
     -> any
     count tcp_pmtu_black_holes 2
     <- A 1 ack 537
     -> A 537+448 ack 1
     -> A 985+476 ack 1`,
    BBR_OFF,
  );
  script(
    'small segments are not suspect',
    `open mss 500
     write 9000
     -> any
     wait 20s
     -> any
     count tcp_pmtu_black_holes 0`,
    BBR_OFF,
  );
  script(
    'a short segment that arrives does not clear the large ones before it',
    `${out(3020)}<- A 1 ack 1 sack 2921-3021
     -> any
     wait 3s
     -> any
     count tcp_pmtu_black_holes 1
     is established`,
    BBR_OFF,
  );
  script(
    'a large one that arrives does',
    `${out(5840)}<- A 1 ack 1 sack 2921-5841
     -> any
     wait 3s
     -> any
     count tcp_pmtu_black_holes 0`,
    BBR_OFF,
  );
  script(
    'without SACK nothing would show a probe’s loss: segments stay as they are',
    `listen
     <- S 0 mss 1460
     -> SA 0 ack 1
     <- A 1 ack 1
     write 14600
     -> any
     wait 5s
     -> any
     count tcp_pmtu_black_holes 0`,
    BBR_OFF,
  );
  script(
    'switched off, segments stay as they are',
    `${out(14600)}wait 2s
     -> any
     count tcp_pmtu_black_holes 0
     <- A 1 ack 1461
     -> A 1461+1460 ack 1
     -> A 2921+1460 ack 1`,
    { tcp: { congestion: 'newreno', pathMtuProbing: false } },
  );
});

/** After the hole everything is acknowledged, and much more is to be sent: the first segment tries the size from before. */
const searching = `${swallowed}<- A 1 ack 14601
     -> any
     write 30000
     -> A 14601+1460 ack 1
     -> A 16061+984 ack 1
     -> any
     count tcp_pmtu_probes 1
     `;

describe('the search', () => {
  script(
    'what passes is the size from now on: it had been an outage',
    `${searching}<- A 1 ack 17045
     -> A 21965+1460 ack 1
     -> any
     count tcp_pmtu_probes 1`,
    BBR_OFF,
  );
  script(
    'a probe that is lost alone goes again in small segments, and the window stays',
    `${searching}cwnd 8284
     <- A 1 ack 14601 sack 16061-19013
     -> A 14601+984 ack 1
     -> A 15585+476 ack 1
     -> any
     cwnd 8284
     count tcp_recoveries 0`,
    BBR_OFF,
  );
});

describe('after "too big" was told', () => {
  script(
    'for ten minutes that is the size; then the one from before is tried',
    `${out(2920)}icmp big 1000 1
     -> any
     <- A 1 ack 2921
     wait 9m
     -> any
     write 8000
     -> A 2921+960 ack 1
     -> any
     <- A 1 ack 10921
     -> any
     wait 2m
     -> any
     write 20000
     -> A 10921+1460 ack 1
     -> A 12381+960 ack 1
     -> any
     count tcp_pmtu_probes 1`,
    { tcp: { congestion: 'newreno', keepaliveIdle: 0 as never } },
  );
});
