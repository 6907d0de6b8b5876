/** Options, MSS, timestamps and PAWS, path MTU: RFC 9293 §3.2, §3.7; RFC 7323; RFC 6691; RFC 1191; RFC 8201; RFC 5927. */
import { describe } from 'vitest';
import { script } from './script.js';

const TIMESTAMPS = { tcp: { timestamps: true } };

describe('options', () => {
  script(
    'unknown ones are skipped',
    `listen
     <- S 0 mss 1000 opt fd0611223344
     -> SA 0 ack 1
     <- A 1 ack 1 opt 1e040000
     is established`,
  );
  script(
    'end of list ends them: what follows is not read',
    `listen
     <- S 0 opt 00020405b4
     -> SA 0 ack 1
     <- A 1 ack 1
     write 600
     -> A 1+536 ack 1
     -> PA 537+64 ack 1`,
  );
  script(
    'one of length 0 or 1 ends them',
    `listen
     <- S 0 opt fd00020405b4
     -> SA 0 ack 1
     <- A 1 ack 1
     write 536
     -> PA 1+536 ack 1`,
  );
  script(
    'one that reaches beyond the header ends them',
    `listen
     <- S 0 opt fd7f0000
     -> SA 0 ack 1
     is synReceived`,
  );
  script(
    'a known one of a wrong length is ignored',
    `listen
     <- S 0 opt 0203050a
     -> SA 0 ack 1
     <- A 1 ack 1
     write 536
     -> PA 1+536 ack 1`,
  );
  script(
    'MSS in a segment after the handshake is ignored',
    `open mss 1000
     <- A 1 ack 1 mss 100
     write 1000
     -> PA 1+1000 ack 1`,
  );
  script(
    'a tiny MSS is taken as 64',
    `open mss 1
     write 128
     -> A 1+64 ack 1
     -> PA 65+64 ack 1`,
  );
  script(
    'an MSS above ours is cut to ours',
    `open mss 9000
     write 2000
     -> A 1+1460 ack 1
     -> PA 1461+540 ack 1`,
  );
  script(
    'without one IPv6 segments carry 1220',
    `listen
     <- S 0
     -> SA 0 ack 1 mss 1440
     <- A 1 ack 1
     write 1500
     -> A 1+1220 ack 1
     -> PA 1221+280 ack 1`,
    { ipv6: true },
  );
  script(
    'a window scale above 14 counts as 14',
    `open scale 15 win 65535
     is established`,
  );
  script(
    'scale is not used when only one end offers it',
    `listen
     <- S 0 mss 1000
     -> SA 0 ack 1 scale -1
     <- A 1 ack 1 win 3000
     write 4000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> A 2001+1000 ack 1`,
  );
  script(
    'SACK blocks where SACK was not agreed mean nothing',
    `open
     write 3000
     -> A 1+1000 ack 1
     -> A 1001+1000 ack 1
     -> PA 2001+1000 ack 1
     <- A 1 ack 1 sack 1001-3001
     <- A 1 ack 1 sack 1001-3001
     count tcp_fast_retransmits 0`,
    { tcp: { sack: false } },
  );
  script(
    'a data offset beyond the segment, or below 5, is no segment',
    `open
     <- A 1+4 ack 1 offset 15
     <- A 1+4 ack 1 offset 4
     got 0`,
  );
});

describe('timestamps', () => {
  script(
    'are on every segment once agreed, and echo the latest in order',
    `open ts 100/0
     <- PA 1+10 ack 1 ts 105/last
     write 10
     -> PA 1+10 ack 11 ts 0/105`,
    TIMESTAMPS,
  );
  script(
    'a segment beyond a gap does not change what is echoed (RFC 7323 §4.3)',
    `open ts 100/0 sackok
     <- A 11+10 ack 1 ts 110/last
     -> A 1 ack 1 ts 0/100
     <- A 1+10 ack 1 ts 108/last
     -> A 1 ack 21 ts 0/108`,
    TIMESTAMPS,
  );
  script(
    'a SYN that comes again is answered with its own, an older one with the newer',
    `listen
     <- S 0 mss 1000 ts 100/0
     -> SA 0 ack 1 ts 0/100
     <- S 0 mss 1000 ts 1100/0
     -> SA 0 ack 1 ts 0/1100
     <- S 0 mss 1000 ts 100/0
     -> SA 0 ack 1 ts 0/1100`,
    { tcp: { timestamps: true } },
  );
  script(
    'with delayed acknowledgements the earliest unacknowledged is echoed',
    `open ts 100/0
     <- A 1+1000 ack 1 ts 110/last
     <- A 1001+1000 ack 1 ts 120/last
     -> A 1 ack 2001 ts 0/110`,
    TIMESTAMPS,
  );
  script(
    'PAWS: an older one is dropped and answered',
    `open ts 100/0
     <- PA 1+10 ack 1 ts 90/last
     -> A 1 ack 1 ts 0/100
     got 0
     count tcp_paws_drops 1`,
    TIMESTAMPS,
  );
  script(
    'PAWS: a bare acknowledgement that was overtaken still tells what has arrived (RFC 7323 §5.3 R1 is about data)',
    `open ts 100/0 sackok
     write 3952
     -> A 1+988 ack 1
     -> A 989+988 ack 1
     -> A 1977+988 ack 1
     -> PA 2965+988 ack 1
     <- A 1 ack 1 ts 110/last sack 2965-3953
     <- A 1 ack 1 ts 109/last sack 989-2965
     wait 1ms
     -> A 1+988 ack 1 ts 0/110
     count tcp_paws_drops 0
     count tcp_challenge_acks 0
     <- A 1 ack 3953 ts 111/last
     is established`,
    TIMESTAMPS,
  );
  script(
    'PAWS: not one older than a retransmission timeout, nor one that ends the stream',
    `open ts 90000/0
     <- A 1 ack 1 ts 80000/last
     -> A 1 ack 1
     count tcp_paws_drops 1
     <- FA 1 ack 1 ts 89999/last
     -> A 1 ack 1
     count tcp_paws_drops 2
     is established`,
    TIMESTAMPS,
  );
  script(
    'PAWS: the same one is fine',
    `open ts 100/0
     <- PA 1+10 ack 1 ts 100/last
     got 10
     wait 50ms
     -> any`,
    TIMESTAMPS,
  );
  script(
    'PAWS: across the wrap a small one is newer',
    `open ts 4294967290/0
     <- PA 1+10 ack 1 ts 5/last
     got 10
     wait 50ms
     -> any`,
    TIMESTAMPS,
  );
  script(
    'PAWS: a RST is exempt',
    `open ts 100/0
     <- R 1 ts 50/0
     closed reset`,
    TIMESTAMPS,
  );
  script(
    'PAWS: an old one in a repeated SYN is not the connection’s',
    `open ts 100/0
     <- S 0 ts 50/0
     -> A 1 ack 1
     is established`,
    TIMESTAMPS,
  );
  script(
    'a segment without them is dropped (RFC 7323 §3.2)',
    `open ts 100/0
     <- PA 1+10 ack 1
     got 0`,
    TIMESTAMPS,
  );
  script(
    'where they were not agreed they mean nothing',
    `open
     <- PA 1+10 ack 1 ts 5/5
     got 10
     wait 50ms
     -> any`,
    TIMESTAMPS,
  );
  script(
    'TIME-WAIT gives way to a SYN whose timestamp is newer, whatever its number (RFC 6191)',
    `open ts 100/0
     fin
     -> FA 1 ack 1
     <- FA 1 ack 2 ts 101/last
     -> A 2 ack 2
     listen
     <- S -100000 ts 200/0
     -> any
     is synReceived`,
    TIMESTAMPS,
  );
  script(
    'TIME-WAIT stands against a SYN that is older in both',
    `open ts 100/0
     fin
     -> FA 1 ack 1
     <- FA 1 ack 2 ts 101/last
     -> A 2 ack 2
     listen
     <- S -100000 ts 50/0
     -> A 2 ack 2
     is timeWait`,
    TIMESTAMPS,
  );
});

describe('path MTU', () => {
  script(
    'too big: smaller segments from una on at once, no sign of congestion',
    `open mss 1460
     write 2920
     -> A 1+1460 ack 1
     -> PA 1461+1460 ack 1
     icmp big 1000 1
     -> A 1+960 ack 1
     -> any
     count tcp_rto 0`,
  );
  script(
    'too big about a number not in flight is not believed (RFC 5927 §7.2)',
    `open mss 1460
     write 1460
     -> PA 1+1460 ack 1
     icmp big 1000 5000
     <- A 1 ack 1461
     write 1460
     -> PA 1461+1460 ack 1`,
  );
  script(
    'a size below what every link carries counts as that',
    `open mss 1460
     write 1460
     -> PA 1+1460 ack 1
     icmp big 68 1
     -> A 1+536 ack 1
     -> any`,
  );
  script(
    'a size above ours changes nothing',
    `open mss 1460
     write 1460
     -> PA 1+1460 ack 1
     icmp big 9000 1
     wait 1ms`,
  );
  script(
    'in IPv6 not below 1280',
    `open mss 1440
     write 1440
     -> PA 1+1440 ack 1
     icmp big 600 1
     -> A 1+1220 ack 1
     -> any`,
    { ipv6: true },
  );
  script(
    'unreachable while established is noted, not obeyed (RFC 1122 §4.2.3.9)',
    `open
     write 100
     -> PA 1+100 ack 1
     icmp unreachable 1
     is established`,
  );
});
