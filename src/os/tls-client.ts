/**
 * TLS of Node's over any byte stream: the certificate is verified against Node's roots (and NODE_EXTRA_CA_CERTS) and the server's name.
 *
 *   stream ─ onData ─► duplex ─► TLSSocket ─► onData          write ─► TLSSocket ─► duplex ─► stream
 *                                        └─ ALPN h2: http2-requests.ts
 *
 * RFC 8446; RFC 7301 (ALPN); RFC 9525 (names in certificates).
 */
import { isIP } from 'node:net';
import { Duplex } from 'node:stream';
import { connect, type TLSSocket } from 'node:tls';
import { http2Requests } from './http2-requests.js';
import type { ByteStream, TlsClient } from './io.js';

export interface NodeTlsOptions {
  /** Trusted instead of Node's roots, PEM. */
  readonly ca?: string | readonly string[];
  /** Called when Node's own loop has something to do for it: a thread that sits in another loop has to let it run. */
  readonly nudge?: () => void;
}

/** Verification errors of OpenSSL and Node: certificates that are not what they should be. */
const UNTRUSTED = /CERT|ISSUER|SELF_SIGNED|ALTNAME|SIGNATURE|CRL/;

export function nodeTls(options: NodeTlsOptions = {}): TlsClient {
  const { ca, nudge = () => {} } = options;
  const client: TlsClient = (open, serverName, protocols, handlers) => {
    let isOver = false;
    let secure: TLSSocket | undefined;
    let transport: ByteStream | undefined;
    const end = (why?: 'untrusted'): void => {
      if (isOver) return;
      close();
      handlers.onClosed(why);
    };
    const pipe = new Duplex({
      read: () => {},
      write: (chunk: Uint8Array, _encoding, done) => {
        if (!isOver) transport?.write(chunk);
        done();
        nudge();
      },
    });
    // What goes wrong is told by the socket inside.
    pipe.on('error', () => end());
    const close = (): void => {
      isOver = true;
      secure?.destroy();
      pipe.destroy();
      transport?.close();
      nudge();
    };
    transport = open({
      onOpen: () => {
        secure = connect({
          socket: pipe,
          host: serverName,
          servername: isIP(serverName) === 0 ? serverName : '',
          ALPNProtocols: [...protocols],
          minVersion: 'TLSv1.2',
          ...(ca === undefined ? {} : { ca: typeof ca === 'string' ? ca : [...ca] }),
        });
        const own = secure;
        secure.once('secureConnect', () => {
          if (isOver) return;
          if (own.alpnProtocol === 'h2') {
            handlers.onOpen(http2Requests(own, () => end(), nudge));
            return;
          }
          own.on('data', (bytes: Uint8Array) => {
            if (!isOver) handlers.onData(bytes, 0, bytes.length);
          });
          handlers.onOpen();
        });
        secure.on('error', ({ code = '' }: NodeJS.ErrnoException) =>
          end(UNTRUSTED.test(code) ? 'untrusted' : undefined),
        );
        secure.once('close', () => end());
        nudge();
      },
      onData: (bytes, offset, length) => {
        pipe.push(bytes.slice(offset, offset + length));
        nudge();
      },
      onClosed: () => {
        // What came before it is still read.
        pipe.push(null);
        nudge();
        setImmediate(() => end());
      },
    });
    if (transport === undefined) return undefined;
    return {
      write: (bytes) => {
        secure?.write(bytes.slice());
        nudge();
      },
      close: () => {
        if (!isOver) close();
      },
    };
  };
  return Object.assign(client, { http2: true });
}
