/** Handshake variants: RFC 9293 §3.5, §3.10.7; RFC 5961 §4; RFC 6298 §2.1, §5.7; RFC 1122 §4.2.2. */
import { describe } from 'vitest';
import { script } from './script.js';

describe('passive', () => {
  script(
    'SYN, SYN-ACK, ACK',
    `listen
     <- S 0 mss 1000
     -> SA 0 ack 1 mss 1460
     is synReceived
     <- A 1 ack 1
     is established
     count tcp_opened 1`,
  );
  script(
    'data rides on the ACK of the handshake',
    `listen
     <- S 0 mss 1000
     -> SA 0 ack 1
     <- PA 1+100 ack 1
     is established
     got 100
     wait 100ms
     -> A 1 ack 101`,
  );
  script(
    'FIN rides on the ACK of the handshake',
    `listen
     <- S 0
     -> SA 0 ack 1
     <- FA 1+10 ack 1
     -> A 1 ack 12
     got 10
     is closeWait`,
  );
  script(
    'payload of a SYN is not taken (no Fast Open): it comes again',
    `listen
     <- S 0+100
     -> SA 0 ack 1
     <- PA 1+100 ack 1
     got 100
     wait 100ms
     -> A 1 ack 101`,
  );
  script(
    'the SYN again: the SYN-ACK again',
    `listen
     <- S 0
     -> SA 0 ack 1
     <- S 0
     -> SA 0 ack 1
     <- A 1 ack 1
     is established`,
  );
  script(
    'SYN-ACK repeated after 1 s, 2 s, 4 s',
    `listen
     <- S 0
     -> SA 0 ack 1
     wait 7s
     -> SA 0 ack 1 @1s
     -> SA 0 ack 1 @3s
     -> SA 0 ack 1 @7s`,
  );
  script(
    'an ACK of something else in SYN-RECEIVED is reset with its number, the connection stays',
    `listen
     <- S 0
     -> SA 0 ack 1
     <- A 1 ack 5000
     -> R 5000
     is synReceived
     <- A 1 ack 1
     is established`,
  );
  script(
    'an ACK of nothing new in SYN-RECEIVED is reset as well',
    `listen
     <- S 0
     -> SA 0 ack 1
     <- A 1 ack 0
     -> R 0
     is synReceived`,
  );
  script(
    'RST in SYN-RECEIVED returns to nothing, and the next SYN is new',
    `listen
     <- S 0
     -> SA 0 ack 1
     <- R 1
     closed reset
     <- A 1 ack 1
     -> R 1`,
  );
  script(
    'RST with a wrong number in SYN-RECEIVED is challenged only inside the window',
    `listen
     <- S 0
     -> SA 0 ack 1
     <- R 70000
     is synReceived
     <- R 0
     is synReceived`,
  );
  script(
    'another SYN inside the window of SYN-RECEIVED is challenged',
    `listen
     <- S 0
     -> SA 0 ack 1
     <- S 100
     -> A 1 ack 1
     is synReceived
     <- A 1 ack 1
     is established`,
  );
  script(
    'ACK lost: data of the peer establishes',
    `listen
     <- S 0
     -> SA 0 ack 1
     <- A 101+50 ack 1
     -> A 1 ack 1
     is established
     <- A 1+100 ack 1
     -> A 1 ack 151
     got 150`,
  );
  script(
    'refused: RST that acknowledges the SYN (and its payload)',
    `listen refuse
     <- S 0
     -> RA 0 ack 1`,
  );
  script(
    'no listener: ACK is reset with its number, SYN with payload acknowledges all of it, RST is ignored',
    `<- A 1 ack 77
     -> R 77
     <- S 0+10
     -> RA 0 ack 11
     <- F 5
     -> RA 0 ack 6
     <- R 5
     <- RA 5 ack 9`,
  );
  script(
    'SYN and FIN together, SYN and RST together: no connection comes of the latter',
    `listen
     <- SR 0
     count tcp_requests 0`,
  );
  script(
    'over IPv6',
    `listen
     <- S 0 mss 1220
     -> SA 0 ack 1 mss 1440
     <- PA 1+10 ack 1
     got 10
     write 2000
     -> A 1+1220 ack 11
     -> PA 1221+780 ack 11`,
    { ipv6: true },
  );
});

describe('active', () => {
  script(
    'SYN, SYN-ACK, ACK; data follows',
    `connect
     -> S 0 mss 1460
     write 100
     <- SA 0 ack 1 mss 1000
     -> PA 1+100 ack 1
     is established`,
  );
  script(
    'SYN repeated after 1 s, 2 s, 4 s; a late SYN-ACK is fine',
    `connect
     -> S 0
     wait 7s
     -> S 0 @1s
     -> S 0 @3s
     -> S 0 @7s
     <- SA 0 ack 1
     -> A 1 ack 1`,
  );
  script(
    'SYN-ACK of another connection is reset, ours goes on',
    `connect
     -> S 0
     <- SA 0 ack 1234
     -> R 1234
     is synSent
     <- SA 0 ack 1
     -> A 1 ack 1`,
  );
  script(
    'SYN-ACK that acknowledges nothing is reset',
    `connect
     -> S 0
     <- SA 0 ack 0
     -> R 0
     is synSent`,
  );
  script(
    'bare ACK of our SYN says nothing',
    `connect
     -> S 0
     <- A 1 ack 1
     is synSent`,
  );
  script(
    'half-open peer: its ACK is reset, so that it lets go',
    `connect
     -> S 0
     <- A 300 ack 100
     -> R 100
     is synSent`,
  );
  script(
    'refused by RST with the right ACK',
    `connect
     -> S 0
     <- RA 0 ack 1
     closed refused`,
  );
  script(
    'RST without ACK, or with a wrong one, is ignored',
    `connect
     -> S 0
     <- R 0
     <- RA 0 ack 2
     closed no
     is synSent`,
  );
  script(
    'SYN-ACK again: our ACK was lost',
    `connect
     -> S 0
     <- SA 0 ack 1
     -> A 1 ack 1
     <- SA 0 ack 1
     -> A 1 ack 1
     is established`,
  );
  script(
    'SYN-ACK with FIN: the peer ends at once',
    `connect
     -> S 0
     <- SFA 0 ack 1
     -> A 1 ack 2
     is closeWait`,
  );
  script(
    'SYN-ACK with payload',
    `connect
     -> S 0
     <- SA 0+10 ack 1
     -> A 1 ack 11
     got 10`,
  );
  script(
    'closed before the answer: FIN follows the handshake',
    `connect
     -> S 0
     fin
     <- SA 0 ack 1
     -> FA 1 ack 1
     is finWait1`,
  );
  script(
    'simultaneous: SYN crosses SYN, SYN-ACK crosses SYN-ACK',
    `connect
     -> S 0
     <- S 0 mss 1000
     -> SA 0 ack 1
     is synReceived
     <- SA 0 ack 1
     is established`,
  );
  script(
    'simultaneous: our SYN-ACK is answered by a bare ACK',
    `connect
     -> S 0
     <- S 0
     -> SA 0 ack 1
     <- A 1 ack 1
     is established`,
  );
  script(
    'simultaneous: SYN-ACK lost, the peer says SYN again',
    `connect
     -> S 0
     <- S 0
     -> SA 0 ack 1
     <- S 0
     -> SA 0 ack 1
     <- SA 0 ack 1
     is established`,
  );
  script(
    'simultaneous: refused at the last moment',
    `connect
     -> S 0
     <- S 0
     -> SA 0 ack 1
     <- RA 1 ack 1
     closed refused`,
  );
  script(
    'host unreachable for our SYN ends it, for another number it does not',
    `connect
     -> S 0
     icmp unreachable 9
     is synSent
     icmp unreachable 0
     closed unreachable`,
  );
});
