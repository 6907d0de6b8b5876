/** Needless copies taken back, and windows of congestion control: RFC 5681 §3.1, §4.1; RFC 6928; RFC 3465; RFC 3522; RFC 3708. */
import { describe } from 'vitest';
import { script } from './script.js';

const CUBIC = { tcp: { congestion: 'cubic' as const } };
/** A round trip of 100 ms. */
const slowOpen = `listen
     <- S 0 mss 1000 sackok
     -> SA 0 ack 1
     wait 100ms
     <- A 1 ack 1
     `;
const ten = Array.from({ length: 10 }, (_, i) => `-> ${i === 9 ? 'PA' : 'A'} ${i * 1000 + 1}+1000 ack 1`).join('\n');

describe('copies that were needless', () => {
  script(
    'DSACK for every copy of a recovery takes it back (RFC 3708)',
    `${slowOpen}write 10000
     ${ten}
     cwnd 10000
     wait 100ms
     <- A 1 ack 1 sack 1001-5001
     -> A 1+1000 ack 1
     <- A 1 ack 10001
     cwnd 7000
     <- A 1 ack 10001 sack 1-1001
     cwnd 10000
     count tcp_dsack_in 1
     count tcp_spurious_recoveries 1`,
    CUBIC,
  );
  script(
    'a DSACK about something else takes nothing back',
    `${slowOpen}write 10000
     ${ten}
     wait 100ms
     <- A 1 ack 1 sack 1001-5001
     -> A 1+1000 ack 1
     <- A 1 ack 10001
     cwnd 7000
     <- A 1 ack 10001 sack -999-1
     cwnd 7000`,
    CUBIC,
  );
  script(
    'the echo shows that the original had only been late',
    `listen
     <- S 0 mss 1012 sackok ts 100/0
     -> SA 0 ack 1
     wait 100ms
     <- A 1 ack 1 ts 101/last
     write 10000
     ${ten}
     cwnd 10000
     wait 100ms
     <- A 1 ack 1 ts 102/last sack 1001-5001
     -> A 1+1000 ack 1
     <- A 1 ack 5001 ts 103/last-100
     count tcp_spurious_recoveries 1`,
    { tcp: { congestion: 'cubic', timestamps: true } },
  );
});

describe('windows of congestion control', () => {
  script(
    'ten segments at first (RFC 6928)',
    `open
     write 20000
     ${ten.replace('-> PA', '-> A')}
     cwnd 10000`,
    CUBIC,
  );
  script(
    'slow start grows by what is acknowledged (RFC 3465)',
    `open
     write 30000
     ${ten.replace('-> PA', '-> A')}
     <- A 1 ack 5001
     -> any
     cwnd 15000`,
    CUBIC,
  );
  script(
    'does not grow while the application has less to send',
    `open
     write 3000
     -> any
     <- A 1 ack 3001
     cwnd 10000`,
    CUBIC,
  );
  script(
    'after a pause longer than the timeout it is the first one again (RFC 5681 §4.1)',
    `open
     write 30000
     -> any
     <- A 1 ack 10001
     -> any
     <- A 1 ack 30001
     cwnd 20000
     wait 1s
     write 1000
     -> PA 30001+1000 ack 1
     cwnd 10000`,
    CUBIC,
  );
});
