/** Windows, probes, acknowledgement rules, silly windows: RFC 9293 §3.8.6; RFC 1122 §4.2.2–3; RFC 5681 §4.2; RFC 813. */
import { describe } from 'vitest';
import { Millis } from '../../../src/base/time.js';
import { script } from './script.js';

describe('acknowledgements', () => {
  script(
    'after a loss sixteen are not delayed: its sender has few segments on the way',
    `open sackok
     <- A 501+500 ack 1
     -> A 1 ack 1 sack 501-1001
     <- A 1+500 ack 1
     -> A 1 ack 1001
     <- A 1001+100 ack 1
     -> A 1 ack 1101
     <- A 1101+100 ack 1
     -> A 1 ack 1201
     <- A 1201+100 ack 1
     -> A 1 ack 1301
     <- A 1301+100 ack 1
     -> A 1 ack 1401
     <- A 1401+100 ack 1
     -> A 1 ack 1501
     <- A 1501+100 ack 1
     -> A 1 ack 1601
     <- A 1601+100 ack 1
     -> A 1 ack 1701
     <- A 1701+100 ack 1
     -> A 1 ack 1801
     <- A 1801+100 ack 1
     -> A 1 ack 1901
     <- A 1901+100 ack 1
     -> A 1 ack 2001
     <- A 2001+100 ack 1
     -> A 1 ack 2101
     <- A 2101+100 ack 1
     -> A 1 ack 2201
     <- A 2201+100 ack 1
     -> A 1 ack 2301
     <- A 2301+100 ack 1
     -> A 1 ack 2401
     <- A 2401+100 ack 1
     -> A 1 ack 2501
     <- A 2501+100 ack 1
     wait 40ms
     -> A 1 ack 2601 @40ms`,
  );
  script(
    'one segment waits for a second, at most 40 ms',
    `open
     <- PA 1+100 ack 1
     wait 100ms
     -> A 1 ack 101 @40ms`,
  );
  script(
    'every second segment at once',
    `open
     <- A 1+1000 ack 1
     <- A 1001+1000 ack 1
     -> A 1 ack 2001`,
  );
  script(
    'data takes it along',
    `open
     <- PA 1+100 ack 1
     write 10
     -> PA 1+10 ack 101
     wait 100ms
     -> any`,
    { tcp: { sack: false } },
  );
  script(
    'beyond a gap at once, and again for each (RFC 5681 §4.2)',
    `open
     <- A 1001+1000 ack 1
     -> A 1 ack 1 sack 1001-2001
     <- A 2001+1000 ack 1
     -> A 1 ack 1 sack 1001-3001
     <- A 1+1000 ack 1
     -> A 1 ack 3001 sack none
     got 3000`,
  );
  script(
    'what fills part of a gap at once',
    `open
     <- A 2001+1000 ack 1
     -> A 1 ack 1 sack 2001-3001
     <- A 1+1000 ack 1
     -> A 1 ack 1001 sack 2001-3001`,
  );
  script(
    'the latest range comes first, then the others (RFC 2018 §4)',
    `open
     <- A 1001+100 ack 1
     -> A 1 ack 1 sack 1001-1101
     <- A 3001+100 ack 1
     -> A 1 ack 1 sack 3001-3101,1001-1101
     <- A 2001+100 ack 1
     -> A 1 ack 1 sack 2001-2101,3001-3101,1001-1101`,
  );
  script(
    'without SACK a duplicate ACK is bare',
    `open
     <- A 1001+1000 ack 1
     -> A 1 ack 1 sack none`,
    { tcp: { sack: false } },
  );
  script(
    'old bytes are reported as duplicates (RFC 2883 §4)',
    `open
     <- A 1+1000 ack 1
     <- A 1001+1000 ack 1
     -> A 1 ack 2001
     <- A 1+1000 ack 1
     -> A 1 ack 2001 sack 1-1001
     count tcp_dsack_out 1`,
  );
  script(
    'a duplicate beyond a gap is reported first, then the range it lies in',
    `open
     <- A 1001+2000 ack 1
     -> A 1 ack 1 sack 1001-3001
     <- A 2001+500 ack 1
     -> A 1 ack 1 sack 2001-2501,1001-3001`,
  );
  script(
    'a segment partly old: the new part is taken, the old part reported',
    `open
     <- A 1+1000 ack 1
     <- A 501+1000 ack 1
     -> A 1 ack 1501 sack 501-1001
     got 1500`,
  );
  script(
    'a keepalive probe is answered, with and without its garbage byte',
    `open
     <- A 0 ack 1
     -> A 1 ack 1
     <- A 0+1 ack 1
     -> A 1 ack 1
     got 0`,
  );
});

describe('the window we give', () => {
  script(
    'shrinks as bytes wait, to nothing, and its right edge never moves left',
    `open win 65535
     take 0
     <- A 1+1000 ack 1
     <- A 1001+1000 ack 1
     -> A 1 ack 2001 win 63535
     <- A 2001+40000 ack 1
     <- A 42001+23535 ack 1
     -> any
     wait 100ms
     -> any
     <- A 65536+1 ack 1
     -> A 1 ack 65536 win 0
     got 0`,
  );
  script(
    'opens with an update of its own when the application takes what filled it',
    `open win 65535
     take 0
     <- A 1+40000 ack 1
     <- A 40001+25535 ack 1
     -> A 1 ack 65536 win 0
     take all ; pull
     -> A 1 ack 65536 win 65535
     got 65535`,
  );
  script(
    'a probe of one byte into a shut window is answered, not taken',
    `open
     take 0
     <- A 1+40000 ack 1
     <- A 40001+25535 ack 1
     -> A 1 ack 65536 win 0
     <- A 65536+1 ack 1
     -> A 1 ack 65536 win 0
     take all ; pull
     -> A 1 ack 65536 win 65535
     <- A 65536+1 ack 1
     wait 50ms
     -> A 1 ack 65537
     got 65536`,
  );
  script(
    'bytes beyond the right edge are cut off',
    `open
     <- A 1+65000 ack 1
     -> any
     take 0
     <- A 65001+60000 ack 1
     -> any
     <- A 125001+10000 ack 1
     -> A 1 ack 130536 win 0`,
  );
});

describe('the window we are given', () => {
  script(
    'limits what is out; what it does not hold waits',
    `open win 2500
     write 5000
     -> A 1+833 ack 1
     -> A 834+833 ack 1
     -> A 1667+833 ack 1
     <- A 1 ack 834 win 2500
     -> A 2500+833 ack 1`,
  );
  script(
    'shut at the start: probed after the timeout with one byte, then twice as long',
    `open win 1000
     write 3000
     -> A 1+1000 ack 1
     <- A 1 ack 1001 win 0
     wait 2s
     -> A 1001+1 ack 1 @200ms
     -> A 1001+1 ack 1 @600ms
     -> A 1001+1 ack 1 @1400ms
     <- A 1 ack 1001 win 2000
     -> A 1001+1000 ack 1
     -> PA 2001+1000 ack 1`,
  );
  script(
    'probes that are answered go on for ever, at growing pauses',
    `open win 1000
     write 3000
     -> A 1+1000 ack 1
     <- A 1 ack 1001 win 0
     wait 201ms
     -> A 1001+1 ack 1
     <- A 1 ack 1001 win 0
     wait 401ms
     -> A 1001+1 ack 1
     <- A 1 ack 1001 win 0
     wait 801ms
     -> A 1001+1 ack 1
     is established`,
  );
  script(
    'probes that nobody answers end the connection with the user timeout',
    `open win 1000
     write 3000
     -> A 1+1000 ack 1
     <- A 1 ack 1001 win 0
     wait 20s
     -> any
     closed timeout`,
    { tcp: { userTimeout: Millis(5000) } },
  );
  script(
    'taken back by the peer: nothing new goes, what is out stays out (RFC 9293 §3.8.6)',
    `open win 4000
     write 10000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> A 2001+1000 ack 1
     -> A 3001+1000 ack 1
     <- A 1 ack 1001 win 1000
     <- A 1 ack 4001 win 1000
     -> A 4001+1000 ack 1`,
  );
  script(
    'an older segment does not move it',
    `open win 4000
     <- A 1+10 ack 1 win 4000
     <- A 1 ack 1 win 0
     -> A 1 ack 11
     write 1000
     -> PA 1+1000 ack 11`,
  );
  script(
    'nor does one that was overtaken and fills a gap',
    `open win 4000
     <- A 11+10 ack 1 win 0
     -> A 1 ack 1
     <- A 1+10 ack 1 win 4000
     -> A 1 ack 21
     write 1000
     wait 100ms
     <- A 21 ack 1 win 4000
     -> PA 1+1000 ack 21`,
  );
  script(
    'scaled: the field counts by 2^scale except in the SYN',
    `open scale 4 win 1000
     write 9000
     -> A 1+1000 ack 1
     -> any
     <- A 1 ack 9001 win 1
     write 100
     -> any`,
  );
  script(
    'less than half of what it ever was and less than a segment: not worth sending (RFC 1122 §4.2.3.4)',
    `open win 3000
     write 3000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> PA 2001+1000 ack 1
     write 3000
     <- A 1 ack 3001 win 900
     wait 100ms
     <- A 1 ack 3001 win 1000
     -> A 3001+1000 ack 1`,
  );
  script(
    '… but for longer than a timeout: what it holds goes (RFC 1122 §4.2.3.4), each time',
    `open win 3000
     write 3000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> PA 2001+1000 ack 1
     write 3000
     <- A 1 ack 3001 win 900
     wait 300ms
     -> A 3001+900 ack 1 @200ms
     <- A 1 ack 3901 win 900
     wait 250ms
     -> A 3901+900 ack 1
     <- A 1 ack 4801 win 0
     count tcp_window_probes 0`,
    { tcp: { congestion: 'cubic' } },
  );
});

describe('a window that was shut for long', () => {
  script(
    'opens: the FIN that it did not take goes again at once',
    `open win 1000
     write 1000
     -> PA 1+1000 ack 1
     <- A 1 ack 1001 win 0
     fin
     -> FA 1001 ack 1
     <- A 1 ack 1001 win 0
     wait 20s
     -> any
     <- A 1 ack 1001 win 1000
     -> FA 1001 ack 1
     <- A 1 ack 1002 win 1000
     is finWait2`,
  );
  script(
    'opens: so does what was out when the peer took it back, and one segment only',
    `open win 4000
     write 4000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> A 2001+1000 ack 1
     -> PA 3001+1000 ack 1
     <- A 1 ack 1001 win 0
     wait 20s
     -> any
     <- A 1 ack 1001 win 4000
     -> A 1001+1000 ack 1
     <- A 1 ack 2001 win 4000
     -> A 2001+1000 ack 1
     -> PA 3001+1000 ack 1
     <- A 1 ack 4001 win 4000`,
  );
  script(
    'opens before the timer: what is out may have been taken',
    `open win 4000
     write 2000
     -> A 1+1000 ack 1
     -> PA 1001+1000 ack 1
     <- A 1 ack 1001 win 0
     <- A 1 ack 1001 win 4000`,
  );
  script(
    'takes a FIN, which needs no room',
    `open
     take 0
     <- A 1+65000 ack 1
     -> any
     <- A 65001+535 ack 1
     -> any
     <- FA 65536 ack 1
     -> A 1 ack 65537 win 0
     is closeWait
     <- A 65537 ack 1
     take all
     pull
     -> any
     got 65535`,
    { tcp: { receiveInitial: 65_535, receiveMax: 65_535 } },
  );
});

describe('urgent data', () => {
  script(
    'is part of the stream (RFC 6093 §3.2)',
    `open
     <- PAU 1+100 ack 1 urg 50
     got 100
     wait 40ms
     -> A 1 ack 101`,
  );
  script(
    'a pointer without the flag, or beyond the data, means nothing',
    `open
     <- PA 1+100 ack 1 urg 50
     <- PAU 101+100 ack 1 urg 5000
     -> A 1 ack 201
     got 200`,
  );
});
