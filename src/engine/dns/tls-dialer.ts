/**
 * A dialer with TLS of the host's around its TCP streams. Whatever that TLS says or does happens in a turn of the loop, however it came
 * to know: only what ends a stream is at once.
 *
 *   resolver ─ write ─► TLS ─ write, in a turn ─► TCP stream          TCP ─► TLS ─ in a turn ─► resolver
 */
import { SallyportError } from '../../base/error.js';
import type { HttpRequests, Reactor, TlsClient } from '../../os/io.js';
import type { DnsDialer, DnsStream, DnsStreamHandlers } from './transport.js';
import type { DnsServer } from './upstream.js';

export function withTls(dialer: DnsDialer, reactor: Reactor, client: TlsClient): DnsDialer {
  const soon = (act: () => void): void => void reactor.at(reactor.now(), act);
  return {
    http2: client.http2 === true,
    udp: (to, handlers) => dialer.udp(to, handlers),
    tcp: (to, handlers) => dialer.tcp(to, handlers),
    tls: (to, serverName, protocols, handlers) => {
      let isClosed = false;
      const inTurn = (act: () => void): void =>
        soon(() => {
          if (!isClosed) act();
        });
      const open = (transport: DnsStreamHandlers): DnsStream | undefined => {
        const stream = dialer.tcp(to, transport);
        return (
          stream && {
            write: (bytes) => {
              const copy = bytes.slice();
              inTurn(() => stream.write(copy));
            },
            close: () => stream.close(),
          }
        );
      };
      const stream = client(open, serverName, protocols, {
        onOpen: (requests) => inTurn(() => handlers.onOpen(requests && postInTurn(requests, soon))),
        onData: (bytes, offset, length) => {
          const copy = bytes.slice(offset, offset + length);
          inTurn(() => handlers.onData(copy, 0, copy.length));
        },
        onClosed: (why) =>
          inTurn(() => {
            isClosed = true;
            handlers.onClosed(why);
          }),
      });
      return (
        stream && {
          write: (bytes) => stream.write(bytes),
          close: () => {
            isClosed = true;
            stream.close();
          },
        }
      );
    },
  };
}

/** A request leaves, and its answer is told, in a turn; it may outlive the stream's handlers. */
function postInTurn(requests: HttpRequests, soon: (act: () => void) => void): HttpRequests {
  return {
    post: (host, path, type, body, done) => {
      const copy = body.slice();
      let isOver = false;
      let withdraw = (): void => {};
      soon(() => {
        if (isOver) return;
        withdraw = requests.post(host, path, type, copy, (response) =>
          soon(() => {
            if (!isOver) done(response);
          }),
        );
      });
      return () => {
        isOver = true;
        withdraw();
      };
    },
  };
}

/** @throws SallyportError DNS_TLS (caller): a server wants TLS, and there is none. */
export function checkTls(servers: readonly DnsServer[], client: TlsClient | undefined): void {
  if (client !== undefined || servers.every(({ transport }) => transport === 'udp' || transport === 'tcp')) return;
  throw new SallyportError(
    'caller',
    'DNS_TLS',
    'tls:// and https:// name servers want TLS, which this engine was not given',
    {
      hint: 'dns.tls: nodeTls() in a Node program',
    },
  );
}
