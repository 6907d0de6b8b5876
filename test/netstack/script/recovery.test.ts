/**
 * Loss and recovery: RFC 5681 §3.2, RFC 6582, RFC 6675, RFC 2018 §8, RFC 2883, RFC 3042, RFC 3522, RFC 6298, RFC 8985, RFC 9937.
 * Ten segments of 1000 bytes are out unless a script says otherwise.
 */
import { describe } from 'vitest';
import { script } from './script.js';

const CUBIC = { tcp: { congestion: 'cubic' as const } };
const RENO = { tcp: { congestion: 'newreno' as const, sack: false } };
/** A round trip of 100 ms, so that its quarter and its double mean something. */
const slowOpen = `listen
     <- S 0 mss 1000 sackok
     -> SA 0 ack 1
     wait 100ms
     <- A 1 ack 1
     `;
const ten = Array.from({ length: 10 }, (_, i) => `-> ${i === 9 ? 'PA' : 'A'} ${i * 1000 + 1}+1000 ack 1`).join('\n');

describe('without SACK (NewReno)', () => {
  script(
    'the third duplicate resends the first segment',
    `open
     write 10000
     ${ten}
     <- A 1 ack 1
     <- A 1 ack 1
     <- A 1 ack 1
     -> A 1+1000 ack 1
     count tcp_fast_retransmits 1
     count tcp_recoveries 1`,
    RENO,
  );
  script(
    'two duplicates do not',
    `open
     write 10000
     ${ten}
     <- A 1 ack 1
     <- A 1 ack 1
     count tcp_retransmits 0`,
    RENO,
  );
  script(
    'a window update is no duplicate',
    `open
     write 10000
     ${ten}
     <- A 1 ack 1 win 60000
     <- A 1 ack 1 win 60001
     <- A 1 ack 1 win 60002
     count tcp_dup_acks 0`,
    RENO,
  );
  script(
    'an acknowledgement with data is no duplicate',
    `open
     write 10000
     ${ten}
     <- PA 1+1 ack 1
     <- PA 2+1 ack 1
     -> any
     <- PA 3+1 ack 1
     count tcp_dup_acks 0
     count tcp_retransmits 0
     wait 50ms
     -> any`,
    RENO,
  );
  script(
    'a partial acknowledgement resends the next hole at once (RFC 6582 §3.2)',
    `open
     write 10000
     ${ten}
     <- A 1 ack 1
     <- A 1 ack 1
     <- A 1 ack 1
     -> A 1+1000 ack 1
     <- A 1 ack 3001
     -> A 3001+1000 ack 1
     <- A 1 ack 10001
     count tcp_retransmits 2
     count tcp_rto 0`,
    RENO,
  );
  script(
    'duplicates in recovery let new data go (limited by half the flight)',
    `open
     write 20000
     ${ten.replace('-> PA', '-> A')}
     <- A 1 ack 1
     -> A 10001+1000 ack 1
     <- A 1 ack 1
     -> A 11001+1000 ack 1
     <- A 1 ack 1
     -> A 1+1000 ack 1`,
    RENO,
  );
  script(
    'no tail probe: it needs SACK to tell what it did',
    `open
     write 1000
     -> PA 1+1000 ack 1
     wait 150ms
     count tcp_tail_probes 0`,
    RENO,
  );
});

describe('with SACK', () => {
  script(
    'three segments beyond a gap resend it',
    `open
     write 10000
     ${ten}
     <- A 1 ack 1 sack 1001-4001
     -> A 1+1000 ack 1
     count tcp_recoveries 1`,
    CUBIC,
  );
  script(
    'only what is missing goes again',
    `open
     write 10000
     ${ten}
     <- A 1 ack 1 sack 1001-2001,3001-4001,5001-10001
     -> A 1+1000 ack 1
     -> A 2001+1000 ack 1
     -> A 4001+1000 ack 1
     <- A 1 ack 10001
     count tcp_retransmits 3
     count tcp_rto 0`,
    CUBIC,
  );
  script(
    'what was sent later than what arrived is not lost yet',
    `open
     write 10000
     ${ten}
     <- A 1 ack 1 sack 3001-6001
     -> any
     <- A 1 ack 3001 sack 3001-6001
     -> any
     count tcp_rto 0
     <- A 1 ack 10001
     wait 1s`,
    CUBIC,
  );
  script(
    'blocks in any order, and blocks again, are the same news',
    `open
     write 10000
     ${ten}
     <- A 1 ack 1 sack 5001-6001,1001-2001,3001-4001
     -> A 1+1000 ack 1
     -> A 2001+1000 ack 1
     -> A 4001+1000 ack 1
     <- A 1 ack 1 sack 1001-2001,3001-4001,5001-6001
     count tcp_recoveries 1
     -> any`,
    CUBIC,
  );
  script(
    'a block beyond what was sent, below una, empty or reversed: ignored',
    `open
     write 3000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> PA 2001+1000 ack 1
     <- A 1 ack 1 sack 9001-12001
     <- A 1 ack 1 sack -5000--4000
     <- A 1 ack 1 sack 1001-1001
     <- A 1 ack 1 sack 3001-1001
     count tcp_retransmits 0`,
    CUBIC,
  );
  script(
    'part of a segment is part of a hole',
    `open
     write 10000
     ${ten}
     <- A 1 ack 1 sack 501-5001
     -> A 1+500 ack 1`,
    CUBIC,
  );
  script(
    'a FIN that is lost with the last data goes again with it',
    `open
     write 1000 ; fin
     -> FPA 1+1000 ack 1
     wait 230ms
     -> FPA 1+1000 ack 1
     <- A 1 ack 1002
     is finWait2`,
    CUBIC,
  );
  script(
    'taken back (RFC 2018 §8): after the timeout what was reported goes again',
    `open
     write 3000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> PA 2001+1000 ack 1
     <- A 1 ack 1 sack 2001-3001
     -> any
     <- A 1 ack 2001
     wait 1s
     -> PA 2001+1000 ack 1
     -> any
     <- A 1 ack 3001`,
    CUBIC,
  );
});

describe('RACK', () => {
  script(
    'one segment beyond a gap: lost a quarter of a round trip later (RFC 8985 §6.2.4)',
    `${slowOpen}write 4000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> A 2001+1000 ack 1
     -> PA 3001+1000 ack 1
     wait 100ms
     <- A 1 ack 1 sack 1001-2001
     wait 26ms
     -> A 1+1000 ack 1 @25ms`,
    CUBIC,
  );
  script(
    'reordered, not lost: the gap is filled within that time and nothing goes again',
    `${slowOpen}write 4000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> A 2001+1000 ack 1
     -> PA 3001+1000 ack 1
     wait 100ms
     <- A 1 ack 1 sack 1001-2001
     wait 20ms
     <- A 1 ack 4001
     wait 100ms
     count tcp_retransmits 0`,
    CUBIC,
  );
  script(
    'once reordering was seen three segments are no proof any more',
    `${slowOpen}write 4000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> A 2001+1000 ack 1
     -> PA 3001+1000 ack 1
     wait 100ms
     <- A 1 ack 1 sack 1001-2001
     <- A 1 ack 4001
     write 6000
     -> any
     wait 100ms
     <- A 1 ack 4001 sack 5001-10001
     wait 20ms
     count tcp_retransmits 0
     wait 10ms
     -> A 4001+1000 ack 1 @5ms`,
    CUBIC,
  );
  script(
    'a retransmission that is lost again is found by what was sent after it',
    `${slowOpen}write 10000
     ${ten}
     write 5000
     wait 100ms
     <- A 1 ack 1 sack 1001-9001
     -> A 1+1000 ack 1
     -> any
     wait 100ms
     <- A 1 ack 1 sack 1001-13001
     -> A 1+1000 ack 1
     -> any
     count tcp_rto 0`,
    CUBIC,
  );
});

describe('a duplicate that is reported', () => {
  script(
    'takes back the recovery whose copy it was, and no other one’s',
    `${slowOpen}write 1000
     -> PA 1+1000 ack 1
     wait 100ms
     <- A 1 ack 1001
     write 10000
     -> any
     wait 100ms
     <- A 1 ack 1001 sack 2001-5001
     -> A 1001+1000 ack 1
     <- A 1 ack 1001 sack 1-1001,2001-5001
     count tcp_dsack_in 1
     count tcp_spurious_recoveries 0
     <- A 1 ack 5001 sack 1001-2001
     count tcp_dsack_in 2
     count tcp_spurious_recoveries 1`,
    CUBIC,
  );
});

describe('tail loss probe', () => {
  script(
    'the last segment again after two round trips, then the timer',
    `${slowOpen}write 3000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> PA 2001+1000 ack 1
     wait 600ms
     -> PA 2001+1000 ack 1 @200ms
     -> A 1+1000 ack 1 @500ms
     count tcp_tail_probes 1
     count tcp_rto 1`,
    CUBIC,
  );
  script(
    'turns the loss of the tail into a recovery by SACK',
    `${slowOpen}write 3000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> PA 2001+1000 ack 1
     wait 200ms
     -> PA 2001+1000 ack 1
     wait 100ms
     <- A 1 ack 1 sack 2001-3001
     -> A 1+1000 ack 1
     <- A 1 ack 1001 sack 2001-3001
     -> A 1001+1000 ack 1
     count tcp_rto 0`,
    CUBIC,
  );
  script(
    'old data, when the peer has no room for new',
    `${slowOpen.replace('<- A 1 ack 1', '<- A 1 ack 1 win 2000')}write 4000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     wait 250ms
     -> A 1001+1000 ack 1 @200ms`,
    CUBIC,
  );
  script(
    'the whole last segment with its FIN',
    `${slowOpen}write 2000 ; fin
     -> A 1+1000 ack 1
     -> FPA 1001+1000 ack 1
     wait 250ms
     -> FPA 1001+1000 ack 1 @200ms`,
    CUBIC,
  );
  script(
    'new data, when there is some, rather than old',
    `${slowOpen}write 12000
     ${ten.replace('-> PA', '-> A')}
     wait 210ms
     -> A 10001+1000 ack 1 @200ms
     count tcp_retransmits 0`,
    CUBIC,
  );
  script(
    'a single segment leaves the peer its delayed acknowledgement',
    `${slowOpen}write 1000
     -> PA 1+1000 ack 1
     wait 290ms
     count tcp_tail_probes 0
     wait 200ms
     -> PA 1+1000 ack 1 @10ms
     count tcp_rto 1`,
    CUBIC,
  );
  script(
    'one probe at a time',
    `${slowOpen}write 3000
     -> any
     wait 490ms
     -> PA 2001+1000 ack 1
     count tcp_tail_probes 1`,
    CUBIC,
  );
});

describe('retransmission timer', () => {
  script(
    'doubles, and sends the head only (RFC 6298 §5.5)',
    `open
     write 3000
     -> any
     wait 7s
     -> A 1+1000 ack 1 @200ms
     -> A 1+1000 ack 1 @600ms
     -> A 1+1000 ack 1 @1400ms
     -> A 1+1000 ack 1 @3s
     -> A 1+1000 ack 1 @6.2s
     count tcp_rto 5`,
    { tcp: { congestion: 'cubic', sack: false } },
  );
  script(
    'starts anew with every acknowledgement of new data (§5.3)',
    `open
     write 3000
     -> any
     wait 150ms
     <- A 1 ack 1001
     wait 150ms
     count tcp_rto 0
     <- A 1 ack 2001
     wait 150ms
     count tcp_rto 0`,
    { tcp: { congestion: 'cubic', sack: false } },
  );
  script(
    'stops when everything is acknowledged (§5.2)',
    `open
     write 3000
     -> any
     <- A 1 ack 3001
     wait 10s
     count tcp_rto 0`,
    CUBIC,
  );
  script(
    'afterwards the window is one segment and grows by what is acknowledged',
    `open
     write 10000
     ${ten}
     wait 250ms
     -> any
     cwnd 1000
     <- A 1 ack 1001
     -> A 1001+1000 ack 1
     -> A 2001+1000 ack 1
     cwnd 2000`,
    { tcp: { congestion: 'newreno', sack: false } },
  );
  script(
    'needless: the echo is older than the copy, and the window is as before (RFC 3522, RFC 4015)',
    `open ts 100/0 mss 1012
     write 10000
     -> any
     wait 300ms
     -> any
     <- A 1 ack 1001 ts 101/last-300
     count tcp_spurious_rto 1`,
    { tcp: { congestion: 'cubic', timestamps: true } },
  );
  script(
    'user timeout: after its time unacknowledged data ends the connection with a RST',
    `open
     write 1000
     -> any
     wait 40m
     -> any
     closed timeout`,
    CUBIC,
  );
});
