/** Timeouts that were premature (RFC 5682's purpose, RFC 3522, RFC 4015), and the user timeout option (RFC 5482). */
import { describe } from 'vitest';
import { script } from './script.js';

const CUBIC = { tcp: { congestion: 'cubic' as const } };
const UTO = { tcp: { userTimeoutOption: true } };
/** A round trip of 100 ms, a timeout of 300 ms, no tail probes; ten segments are out and the first has timed out. */
const timedOut = `listen
     <- S 0 mss 1000
     -> SA 0 ack 1
     wait 100ms
     <- A 1 ack 1
     write 20000
     ${Array.from({ length: 10 }, (_, i) => `-> A ${i * 1000 + 1}+1000 ack 1`).join('\n')}
     wait 310ms
     -> A 1+1000 ack 1 @300ms
     count tcp_rto 1
     cwnd 1000
     `;
/** The first acknowledgement comes when it may be of the copy. */
const late = `${timedOut}wait 90ms
     <- A 1 ack 1001
     -> A 1001+1000 ack 1
     -> A 2001+1000 ack 1
     `;

describe('a timeout that was premature', () => {
  script(
    'acknowledgements at once after the copy are of originals: nothing more is sent again, the window is as before',
    `${timedOut}<- A 1 ack 1001
     -> A 10001+1000 ack 1
     count tcp_spurious_rto 1
     <- A 1 ack 2001
     -> A 11001+1000 ack 1
     -> A 12001+1000 ack 1
     cwnd 11000
     count tcp_retransmits 1`,
    CUBIC,
  );
  script(
    'the first one may be too late to tell; the next ones tell by the copies it let go',
    `${late}count tcp_spurious_rto 0
     wait 5ms
     <- A 1 ack 2001
     -> A 10001+1000 ack 1
     -> A 11001+1000 ack 1
     count tcp_spurious_rto 1`,
    CUBIC,
  );
  script(
    'after a round trip they are of the copy: what was outstanding goes again, from a window of one',
    `${late}wait 100ms
     <- A 1 ack 3001
     -> any
     count tcp_spurious_rto 0
     count tcp_retransmits 7
     cwnd 4000`,
    CUBIC,
  );
  script(
    'it makes the next timeout allow for what it has seen (RFC 4015 §3.3)',
    `${timedOut}<- A 1 ack 1001
     -> any
     <- A 1 ack 11001
     -> any
     <- A 1 ack 20001
     write 1000
     -> PA 20001+1000 ack 1
     wait 600ms
     count tcp_rto 1`,
    CUBIC,
  );
  script(
    'the second timeout in a row is not judged by the clock',
    `${timedOut}wait 600ms
     -> A 1+1000 ack 1
     <- A 1 ack 1001
     -> any
     count tcp_spurious_rto 0`,
    CUBIC,
  );
});

describe('user timeout option', () => {
  script(
    'is offered and answered where it is switched on: 30 minutes',
    `listen
     <- S 0 mss 1000
     -> SA 0 ack 1 uto 1800`,
    UTO,
  );
  script('on a SYN too', 'connect\n-> S 0 uto 1800', { tcp: { ...UTO.tcp, ecn: 'off' } });
  script(
    'is neither sent nor taken where it is not',
    `listen
     <- S 0 mss 1000 uto 1
     -> SA 0 ack 1 uto -1`,
  );
  const lost = (uto: number, when: string): string => `listen
     <- S 0 mss 1000 uto ${uto}
     -> SA 0 ack 1
     <- A 1 ack 1
     write 1000
     -> any
     wait ${when}
     -> any
     is established
     `;
  const short = { tcp: { userTimeoutOption: true, userTimeout: 10_000_000 as never } };
  script('the longer of both counts', `${lost(200, '190s')}wait 200s\n-> any\nclosed timeout`, short);
  script('in minutes', `${lost(0x8000 | 5, '290s')}wait 200s\n-> any\nclosed timeout`, short);
  script('not less than 100 s, if the peer says anything', `${lost(1, '95s')}wait 120s\n-> any\nclosed timeout`, short);
  script('at most an hour', `${lost(0xffff, '58m')}wait 6m\n-> any\nclosed timeout`, short);
  script(
    'zero says nothing',
    `listen
     <- S 0 mss 1000 uto 0
     -> SA 0 ack 1
     <- A 1 ack 1
     write 1000
     -> any
     wait 30s
     -> any
     closed timeout`,
    short,
  );
  script(
    'a later segment may change it',
    `listen
     <- S 0 mss 1000
     -> SA 0 ack 1
     <- A 1 ack 1 uto 200
     write 1000
     -> any
     wait 190s
     -> any
     is established`,
    short,
  );
});
