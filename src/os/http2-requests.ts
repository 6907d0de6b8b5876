/**
 * Requests over HTTP/2 on a stream whose TLS has agreed on it; Node's http2 does the protocol.
 *
 *   post ─► stream ─┬─ response, end ────────────────────────────────► the response
 *                   ├─ REFUSED_STREAM, or above a GOAWAY's last stream ─► refused: nobody has looked at it (RFC 9113 §8.7)
 *                   └─ reset, too long, the connection's end ───────────► failed
 *
 * RFC 9113.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import type { TLSSocket } from 'node:tls';
import type { HttpRequests, HttpResponse } from './io.js';

/** Longest body: a DNS message's. */
const BODY_MAX = 65_535;
/** Of a response, bytes as RFC 9113 §6.5.2 counts them, and fields. */
const HEADER_LIST_BYTES = 16_384;
const HEADER_FIELDS = 128;
/** Megabytes that one connection's streams, tables and queues may take; beyond, streams are refused. */
const SESSION_MEGABYTES = 8;

type Done = (response: HttpResponse | 'refused' | 'failed') => void;

/** @param onEnd the connection has ended, or must; called once at least */
export function http2Requests(socket: TLSSocket, onEnd: () => void, nudge: () => void): HttpRequests {
  const session = connect('https://localhost', {
    createConnection: () => socket,
    settings: { enablePush: false, maxHeaderListSize: HEADER_LIST_BYTES },
    maxHeaderListPairs: HEADER_FIELDS,
    maxSessionMemory: SESSION_MEGABYTES,
  });
  // What goes wrong ends the session, and is told by that.
  session.on('error', () => {});
  // Node says by an exception or, from 26 on, by the stream's end that no more is taken: here it is known before.
  let takesMore = true;
  session.once('goaway', () => {
    takesMore = false;
  });
  session.once('close', onEnd);
  return {
    post: (host, path, type, body, done) => {
      const isOpen = takesMore && !session.closed && !session.destroyed;
      const stream = isOpen ? open(session, host, path, type, body.length) : undefined;
      if (stream === undefined) {
        const soon = setImmediate(() => done('refused'));
        nudge();
        return () => clearImmediate(soon);
      }
      let tell: Done = done;
      collect(stream, (response) => {
        // Of streams above a GOAWAY's last one Node says the same.
        const isUnseen = stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
        tell(response ?? (isUnseen ? 'refused' : 'failed'));
      });
      stream.end(body.slice());
      nudge();
      return () => {
        tell = () => {};
        stream.close(constants.NGHTTP2_CANCEL);
        nudge();
      };
    },
  };
}

/** Undefined: this connection takes no more requests. */
function open(
  session: ClientHttp2Session,
  host: string,
  path: string,
  type: string,
  length: number,
): ClientHttp2Stream | undefined {
  try {
    return session.request({
      ':method': 'POST',
      ':authority': host,
      ':path': path,
      accept: type,
      'content-type': type,
      'content-length': length,
    });
  } catch {
    // Ended in this very moment, or out of stream ids.
    return undefined;
  }
}

/** Calls `end` once, with the whole response, or without one. */
function collect(stream: ClientHttp2Stream, end: (response: HttpResponse | undefined) => void): void {
  const parts: Uint8Array[] = [];
  let length = 0;
  let status = 0;
  let isWhole = false;
  stream.on('response', (headers) => {
    status = headers[':status'] ?? 0;
  });
  stream.on('data', (part: Uint8Array) => {
    length += part.length;
    if (length <= BODY_MAX) parts.push(part);
    else stream.close(constants.NGHTTP2_CANCEL);
  });
  stream.on('end', () => {
    isWhole = length <= BODY_MAX;
  });
  stream.on('error', () => {});
  stream.once('close', () => {
    const isAnswer = isWhole && status > 0 && stream.rstCode === constants.NGHTTP2_NO_ERROR;
    end(isAnswer ? { status, body: Uint8Array.from(Buffer.concat(parts)) } : undefined);
  });
}
