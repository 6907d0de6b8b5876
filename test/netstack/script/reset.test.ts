/** RST of ours and of theirs in every state, and blind attacks: RFC 9293 §3.5.2, §3.10.7; RFC 5961 §3–5. */
import { describe } from 'vitest';
import { script } from './script.js';

describe('their RST', () => {
  script(
    'with the next number resets at once',
    `open
     <- R 1
     closed reset
     count tcp_rst_in 1`,
  );
  script(
    'inside the window but elsewhere is challenged',
    `open
     <- R 2
     -> A 1 ack 1
     is established
     <- R 1000
     -> A 1 ack 1
     count tcp_challenge_acks 2`,
  );
  script(
    'outside the window is silent',
    `open
     <- R 0
     <- R 2000000000
     is established
     count tcp_challenge_acks 0`,
  );
  script(
    'with data ahead of it: the data is taken first',
    `open
     <- PA 1+100 ack 1
     got 100
     <- R 101
     closed reset`,
  );
  script(
    'in FIN-WAIT-1',
    `open
     fin
     -> FA 1 ack 1
     <- R 1
     closed reset`,
  );
  script(
    'in FIN-WAIT-2',
    `open
     fin
     -> FA 1 ack 1
     <- A 1 ack 2
     <- R 1
     closed reset`,
  );
  script(
    'in CLOSE-WAIT',
    `open
     <- FA 1 ack 1
     -> A 1 ack 2
     <- R 2
     closed reset`,
  );
  script(
    'in CLOSING',
    `open
     fin
     -> FA 1 ack 1
     <- FA 1 ack 1
     -> A 2 ack 2
     <- R 2
     closed reset`,
  );
  script(
    'in LAST-ACK',
    `open
     <- FA 1 ack 1
     -> A 1 ack 2
     fin
     -> FA 1 ack 2
     <- R 2
     closed reset`,
  );
  script(
    'with a shut window, at the next number',
    `open
     take 0
     <- A 1+32768 ack 1
     -> any
     <- A 32769+32767 ack 1
     -> any
     <- R 65536
     closed reset`,
  );
});

describe('our RST', () => {
  script(
    'abort in ESTABLISHED',
    `open
     abort
     -> RA 1 ack 1
     closed aborted`,
  );
  script(
    'abort with data unsent: the number is the next to send',
    `open win 1000
     write 3000
     -> A 1+1000 ack 1
     abort
     -> RA 1001 ack 1`,
  );
  script(
    'abort in SYN-SENT is silent, and a late SYN-ACK is then reset',
    `connect
     -> S 0
     abort
     closed aborted
     <- SA 0 ack 1
     -> R 1`,
  );
  script(
    'abort in SYN-RECEIVED',
    `listen
     <- S 0
     -> SA 0 ack 1
     abort
     -> RA 1 ack 1`,
  );
  script(
    'abort in FIN-WAIT-1',
    `open
     fin
     -> FA 1 ack 1
     abort
     -> RA 2 ack 1`,
  );
  script(
    'abort in CLOSE-WAIT',
    `open
     <- FA 1 ack 1
     -> A 1 ack 2
     abort
     -> RA 1 ack 2`,
  );
  script(
    'after it, their data is reset',
    `open
     abort
     -> RA 1 ack 1
     <- PA 1+10 ack 1
     -> R 1`,
  );
});

describe('blind attacks', () => {
  script(
    'SYN in an established connection, old, exact or new: a challenge',
    `open
     <- S 0
     -> A 1 ack 1
     <- S 1
     -> A 1 ack 1
     <- S 500
     -> A 1 ack 1
     is established`,
  );
  script(
    'SYN-ACK in an established connection: a challenge',
    `open
     <- SA 1 ack 1
     -> A 1 ack 1
     is established`,
  );
  script(
    'data with an ACK of what was never sent is dropped and challenged',
    `open
     <- A 1+100 ack 5000
     -> A 1 ack 1
     got 0`,
  );
  script(
    'data with an ACK far behind is dropped and challenged',
    `open win 1000
     <- A 1+100 ack -100000
     -> A 1 ack 1
     got 0`,
  );
  script(
    'an ACK within the largest window behind is fine',
    `open win 1000
     <- A 1+100 ack -900
     got 100
     wait 100ms
     -> A 1 ack 101`,
  );
  script(
    'data without ACK is dropped',
    `open
     <- P 1+10
     got 0`,
  );
  script(
    'no flags at all: dropped',
    `open
     <- - 1+10
     got 0
     is established`,
  );
  script(
    'everything at once (SYN FIN RST): nothing',
    `open
     <- SFRPAU 500 ack 1
     -> A 1 ack 1
     is established`,
  );
  script(
    'challenges are limited in number',
    `open
     <- R 2
     -> A 1 ack 1
     <- R 3
     -> A 1 ack 1
     <- R 4
     count tcp_challenge_acks 2`,
    { limits: { challengeRate: 2 } },
  );
});
