/** FIN in every order, half-closes, TIME-WAIT: RFC 9293 §3.6, §3.10.7; RFC 1122 §4.2.2.13; RFC 1337; RFC 6191. */
import { describe } from 'vitest';
import { script } from './script.js';

describe('FIN', () => {
  script(
    'ours first, acknowledged, then theirs',
    `open
     fin
     -> FA 1 ack 1
     is finWait1
     <- A 1 ack 2
     is finWait2
     <- FA 1 ack 2
     -> A 2 ack 2
     is timeWait
     closed finished`,
  );
  script(
    'theirs first',
    `open
     <- FA 1 ack 1
     -> A 1 ack 2
     is closeWait
     fin
     -> FA 1 ack 2
     is lastAck
     <- A 2 ack 2
     closed finished`,
  );
  script(
    'theirs first, ours in the same turn as the acknowledgement',
    `open
     <- FA 1 ack 1
     -> A 1 ack 2
     write 10
     -> PA 1+10 ack 2
     fin
     -> FA 11 ack 2
     <- A 2 ack 12
     closed finished`,
  );
  script(
    'both at once, neither acknowledged yet: CLOSING',
    `open
     fin
     -> FA 1 ack 1
     <- FA 1 ack 1
     -> A 2 ack 2
     is closing
     <- A 2 ack 2
     is timeWait`,
  );
  script(
    'theirs acknowledges ours',
    `open
     fin
     -> FA 1 ack 1
     <- FA 1 ack 2
     -> A 2 ack 2
     is timeWait`,
  );
  script(
    'in CLOSING their FIN again is acknowledged again',
    `open
     fin
     -> FA 1 ack 1
     <- FA 1 ack 1
     -> A 2 ack 2
     <- FA 1 ack 1
     -> A 2 ack 2
     is closing`,
  );
  script(
    'with the last data, in one segment',
    `open
     write 10
     -> PA 1+10 ack 1
     write 20 ; fin
     -> FPA 11+20 ack 1
     <- A 1 ack 32
     is finWait2`,
  );
  script(
    'data waits for the window, FIN waits for the data',
    `open win 1000
     write 1500
     -> A 1+1000 ack 1
     fin
     is finWait1
     <- A 1 ack 1001 win 1000
     -> FPA 1001+500 ack 1
     <- A 1 ack 1502
     is finWait2`,
  );
  script(
    'does not wait for a shut window',
    `open win 1000
     write 1000
     -> PA 1+1000 ack 1
     <- A 1 ack 1001 win 0
     fin
     -> FA 1001 ack 1`,
  );
  script(
    'lost: repeated by the timer until acknowledged',
    `open
     fin
     -> FA 1 ack 1
     wait 700ms
     -> FA 1 ack 1
     -> FA 1 ack 1
     <- A 1 ack 2
     is finWait2
     wait 2s`,
  );
  script(
    'their data after our FIN is taken and acknowledged (half-close)',
    `open
     fin
     -> FA 1 ack 1
     <- A 1 ack 2
     <- PA 1+1000 ack 2
     <- PA 1001+1000 ack 2
     -> A 2 ack 2001
     got 2000
     <- FPA 2001+5 ack 2
     -> A 2 ack 2007
     got 2005
     is timeWait`,
  );
  script(
    'our data after their FIN flows until we close (half-close)',
    `open
     <- FA 1 ack 1
     -> A 1 ack 2
     write 2500
     -> A 1+1000 ack 2
     -> A 1001+1000 ack 2
     -> PA 2001+500 ack 2
     <- A 2 ack 2501
     is closeWait`,
  );
  script(
    'ahead of missing bytes it is not counted before they come',
    `open
     <- FA 101 ack 1
     -> A 1 ack 1
     is established
     <- PA 1+100 ack 1
     -> A 1 ack 102
     is closeWait`,
  );
  script(
    'data beyond their FIN is not part of the stream',
    `open
     <- FPA 1+10 ack 1
     -> A 1 ack 12
     <- PA 12+10 ack 1
     got 10`,
  );
  script(
    'acknowledged in FIN-WAIT-2 when it comes again in TIME-WAIT, which then starts anew',
    `open
     fin
     -> FA 1 ack 1
     <- A 1 ack 2
     <- FA 1 ack 2
     -> A 2 ack 2
     wait 900ms
     <- FA 1 ack 2
     -> A 2 ack 2
     wait 900ms
     is timeWait
     wait 200ms
     is closed`,
  );
  script(
    'abandoned half-close: after the configured time the connection is reset',
    `open
     fin
     -> FA 1 ack 1
     <- A 1 ack 2
     wait 61s
     -> any
     closed idle`,
  );
});

describe('TIME-WAIT', () => {
  const closed = `open
     fin
     -> FA 1 ack 1
     <- FA 1 ack 2
     -> A 2 ack 2
     is timeWait
     `;
  script(
    'a newer SYN begins a new connection (RFC 9293 §3.10.7.4)',
    `${closed}listen
     <- S 100
     -> any
     is synReceived`,
  );
  script(
    'an old SYN is only answered',
    `${closed}listen
     <- S -5000
     -> A 2 ack 2
     is timeWait`,
  );
  script(
    'old data is answered, not taken',
    `${closed}<- PA 1+0 ack 2
     -> A 2 ack 2
     <- A -10+10 ack 2
     -> A 2 ack 2
     is timeWait`,
  );
  script(
    'a RST does not end it early (RFC 1337)',
    `${closed}<- R 2
     is timeWait
     wait 1s
     is closed`,
  );
  script(
    'ends after its time',
    `${closed}wait 999ms
     is timeWait
     wait 1ms
     is closed
     <- A 2 ack 2
     -> R 2`,
  );
});
