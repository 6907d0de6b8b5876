/** Explicit congestion notification: RFC 3168 §6.1, RFC 8311; AccECN with both orders of its option and its fall-backs: RFC 9768 §3. */
import { describe } from 'vitest';
import { script } from './script.js';

const CLASSIC = { tcp: { ecn: 'classic' as const, congestion: 'cubic' as const } };
const ACCURATE = { tcp: { ecn: 'accurate' as const, congestion: 'cubic' as const } };
const ten = Array.from({ length: 10 }, (_, i) => `-> AN ${i * 1000 + 1}+1000 ack 1`);
/** A classic connection that the peer opened. */
const asked = (more = ''): string => `listen
     <- SEC 0 mss 1000${more}
     -> SAE 0 ack 1
     <- A 1 ack 1
     `;
/** A connection that the stack opens and the peer answers with these flags. */
const answered = (asking: string, flags: string): string => `connect
     -> ${asking} 0
     <- ${flags} 0 ack 1 mss 1000
     `;
/** One segment goes out, marked so. */
const sends = (flags: string, tos: number): string => `write 1000
     -> ${flags} 1+1000 ack 1 tos ${tos}`;
/** An accurate connection that the peer opened. */
const opened = `listen
     <- SECN 0 mss 1000 sackok
     -> SAC 0 ack 1 ecn 0:1,0,1
     <- AC 1 ack 1
     count tcp_ecn 1
     `;

describe('classic', () => {
  script(
    'a SYN that asks is answered with ECE, and data is ECT(0)',
    `listen
     <- SEC 0 mss 1000 sackok
     -> SAE 0 ack 1 tos 0
     <- A 1 ack 1
     ${sends('PA', 2)}
     count tcp_ecn 1`,
    CLASSIC,
  );
  script(
    'is what an accurate end falls back to when only that is asked for',
    `listen
     <- SEC 0 mss 1000
     -> SAE 0 ack 1 ecn none
     <- A 1 ack 1
     ${sends('PA', 2)}`,
    ACCURATE,
  );
  script(
    'ECE on everything after CE, until CWR comes',
    `${asked()}<- A 1+1000 ack 1 tos 3
     -> AE 1 ack 1001
     <- A 1001+1000 ack 1 tos 2
     <- A 2001+1000 ack 1 tos 2
     -> AE 1 ack 3001
     write 500
     -> PAE 1+500 ack 3001
     <- PAC 3001+1000 ack 501 tos 2
     wait 40ms
     -> A 501 ack 4001
     count tcp_ce_in 1`,
    CLASSIC,
  );
  script(
    'CE on the very segment with CWR begins anew',
    `${asked()}<- A 1+1000 ack 1 tos 3
     -> AE 1 ack 1001
     <- AC 1001+1000 ack 1 tos 3
     -> AE 1 ack 2001`,
    CLASSIC,
  );
  script(
    'ECE shrinks the window once per window, and CWR says so on the next new data only',
    `${asked(' sackok')}write 12000
     ${ten.join('\n').replaceAll('AN', 'A')}
     cwnd 10000
     <- AE 1 ack 1001
     cwnd 7000
     <- AE 1 ack 2001
     <- AE 1 ack 4001
     -> AC 10001+1000 ack 1
     count tcp_ce_reported 3
     <- AE 1 ack 5001
     -> PA 11001+1000 ack 1
     <- A 1 ack 12001`,
    CLASSIC,
  );
  script(
    'what is sent again is not ECT, nor are bare acknowledgements, nor a FIN alone',
    `${asked(' sackok')}${sends('PA', 2)}
     wait 1200ms
     -> PA 1+1000 ack 1 tos 0
     -> any
     <- A 1 ack 1001
     <- A 1+1000 ack 1001
     wait 40ms
     -> A 1001 ack 1001 tos 0
     fin
     -> FA 1001 ack 1001 tos 0`,
    CLASSIC,
  );
  script(
    'a SYN that asks and gets no ECE back: none',
    `${answered('SEC', 'SA')}-> A 1 ack 1
     ${sends('PA', 0)}
     <- AE 1 ack 1001
     count tcp_ce_reported 0`,
    CLASSIC,
  );
  script(
    'a SYN-ACK that reflects the asking flags is of a broken peer',
    `${answered('SEC', 'SAEC')}-> A 1 ack 1
     ${sends('PA', 0)}`,
    CLASSIC,
  );
  script(
    'marks without an agreement mean nothing',
    `open
     <- A 1+1000 ack 1 tos 3
     wait 40ms
     -> A 1 ack 1001
     count tcp_ce_in 0`,
  );
});

describe('accurate: handshake', () => {
  script(
    'asks with all three flags, and tells with the first acknowledgement how the SYN-ACK came',
    `connect
     -> SECN 0 tos 0
     <- SAC 0 ack 1 mss 1000
     -> AC 1 ack 1 ecn 0:1,0,1
     ${sends('PAEN', 2)}`,
    ACCURATE,
  );
  for (const [tos, flags, name] of [
    [0, 'SAC', 'not ECT'],
    [1, 'SAEC', 'ECT(1)'],
    [2, 'SAN', 'ECT(0)'],
    [3, 'SACN', 'CE'],
  ] as const) {
    script(
      `the SYN-ACK tells that the SYN came as ${name}`,
      `listen
       <- SECN 0 mss 1000 tos ${tos}
       -> ${flags} 0 ack 1`,
      ACCURATE,
    );
    script(
      `the last acknowledgement tells that the SYN-ACK came as ${name}`,
      `connect
       -> SECN 0
       <- SAC 0 ack 1 mss 1000 tos ${tos}
       -> ${flags.slice(1)} 1 ack 1`,
      ACCURATE,
    );
  }
  script(
    'a SYN that came with CE counts as one mark',
    `listen
     <- SECN 0 mss 1000 tos 3
     -> SACN 0 ack 1
     <- AC 1 ack 1
     <- A 1+1000 ack 1
     <- A 1001+1000 ack 1
     -> ACN 1 ack 2001`,
    ACCURATE,
  );
  script(
    'a SYN-ACK with ECE alone: classic',
    `${answered('SECN', 'SAE')}-> A 1 ack 1 ecn none
     ${sends('PA', 2)}`,
    ACCURATE,
  );
  for (const flags of ['SA', 'SAECN'])
    script(
      `a SYN-ACK with ${flags === 'SA' ? 'no' : 'all'} flags: none`,
      `${answered('SECN', flags)}-> A 1 ack 1 ecn none
       write 1000
       -> PA 1+1000 ack 1 tos 0`,
      ACCURATE,
    );
  script(
    'combinations not defined yet count as the defined one (RFC 9768 §3.1.3): in a SYN',
    `listen
     <- SN 0 mss 1000
     -> SAC 0 ack 1 ecn 0:1,0,1`,
    ACCURATE,
  );
  script(
    'and in a SYN-ACK',
    `${answered('SECN', 'SAEN')}-> AC 1 ack 1
     ${sends('PAEN', 2)}`,
    ACCURATE,
  );
  script(
    'a SYN that arrived changed: what comes is counted, nothing is sent as ECT',
    `${answered('SECN', 'SAN')}-> AC 1 ack 1
     ${sends('PAEN', 0)}
     <- AEN 1+1000 ack 1001 tos 3
     -> ACN 1001 ack 1001 ecn 0:1,1000,1`,
    ACCURATE,
  );
  script(
    'the third SYN no longer asks',
    `connect
     -> SECN 0
     wait 1s
     -> SECN 0
     wait 2s
     -> S 0
     <- SA 0 ack 1 mss 1000
     -> A 1 ack 1 ecn none`,
    ACCURATE,
  );
  script(
    'a SYN-ACK sent again has no option, a third one no flags; the counting goes on',
    `listen
     <- SECN 0 mss 1000
     -> SAC 0 ack 1 ecn 0:1,0,1
     wait 1s
     -> SAC 0 ack 1 ecn none
     wait 2s
     -> SA 0 ack 1 ecn none
     <- A 1 ack 1
     ${sends('PAEN', 0)}`,
    ACCURATE,
  );
  script(
    'a SYN sent again while it waits may ask for less',
    `listen hold
     <- SECN 0 mss 1000
     <- S 0 mss 1000
     accept
     -> SA 0 ack 1 ecn none`,
    ACCURATE,
  );
  script(
    'switched off it neither asks nor answers',
    `listen
     <- SECN 0 mss 1000 tos 2
     -> SA 0 ack 1 ecn none
     <- A 1 ack 1
     ${sends('PA', 0)}`,
    { tcp: { ecn: 'off' } },
  );
});

describe('accurate: feedback', () => {
  script(
    'counts packets in the flags and bytes in the option',
    `${opened}<- AEN 1+1000 ack 1 tos 2
     <- AEN 1001+1000 ack 1 tos 3
     -> ACN 1 ack 2001 ecn 0:1001,1000,1
     <- AEN 2001+500 ack 1 tos 3
     -> AECN 1 ack 2501 ecn 0:1001,1500,1
     <- AEN 2501+500 ack 1 tos 3
     -> A 1 ack 3001 ecn 0:1001,2000,1
     count tcp_ce_in 3`,
    ACCURATE,
  );
  script(
    'with ECT(1) the other order, which a cut option would keep first',
    `${opened}<- AEN 1+1000 ack 1 tos 1
     <- AEN 1001+1000 ack 1 tos 1
     -> AEN 1 ack 2001 ecn 1:2001,0,1`,
    ACCURATE,
  );
  script(
    'beside timestamps and SACK blocks the option is cut, or left out',
    `listen
     <- SECN 0 mss 1012 sackok ts 5/0
     -> SAC 0 ack 1 ecn 0:1,0,1
     <- AC 1 ack 1 ts 5/last
     <- AEN 1001+1000 ack 1 tos 2 ts 6/last
     -> AEN 1 ack 1 sack 1001-2001 ecn 0:1001,0,1
     <- AEN 3001+1000 ack 1 tos 2 ts 6/last
     -> AEN 1 ack 1 ecn 0:2001,0
     <- AEN 5001+1000 ack 1 tos 2 ts 6/last
     -> AEN 1 ack 1 ecn none`,
    { tcp: { ...ACCURATE.tcp, timestamps: true } },
  );
  script(
    'reported marks shrink the window once per window',
    `${opened}write 10000
     ${ten
       .join('\n')
       .replaceAll('AN', 'AEN')
       .replace(/AEN 9001/, 'PAEN 9001')}
     <- ACN 1 ack 2001 ecn 0:1001,1000,1
     cwnd 7000
     count tcp_ce_reported 1
     <- A 1 ack 5001 ecn 0:2001,3000,1
     count tcp_ce_reported 3
     cwnd 7000`,
    ACCURATE,
  );
  script(
    'where three bits wrapped in one acknowledgement, the bytes tell',
    `${opened}write 10000
     -> any
     <- ACN 1 ack 10001 ecn 0:1001,9000,1
     count tcp_ce_reported 9`,
    ACCURATE,
  );
  script(
    'without the option the flags alone count, and the worst is taken where they may have wrapped',
    `${opened}write 10000
     -> any
     <- ACN 1 ack 1001
     count tcp_ce_reported 1
     <- AECN 1 ack 10001
     count tcp_ce_reported 10`,
    ACCURATE,
  );
  script(
    'an acknowledgement that tells nothing new says nothing about marks',
    `${opened}write 3000
     -> any
     <- A 1 ack 1
     <- AECN 1 ack 1 win 60000
     count tcp_ce_reported 0`,
    ACCURATE,
  );
  script(
    'no flags in the acknowledgement of the handshake: they are cleared on the way, and nothing is sent as ECT',
    `listen
     <- SECN 0 mss 1000
     -> SAC 0 ack 1
     <- A 1 ack 1
     ${sends('PAEN', 0)}`,
    ACCURATE,
  );
  script(
    'while the counter holds CWR, segments leave one by one',
    `${opened}<- AEN 1+1000 ack 1 tos 3
     -> ACN 1 ack 1001
     write 3000
     -> ACN 1+1000 ack 1001 tos 2
     -> ACN 1001+1000 ack 1001 tos 2
     -> PACN 2001+1000 ack 1001 tos 2`,
    ACCURATE,
  );
  script(
    'the same over IPv6',
    `listen
     <- SECN 0 mss 1000
     -> SAC 0 ack 1 tos 0
     <- AC 1 ack 1
     ${sends('PAEN', 2)}
     <- AEN 1+1000 ack 1001 tos 3
     -> ACN 1001 ack 1001 ecn 0:1,1000,1`,
    { ...ACCURATE, ipv6: true },
  );
});
