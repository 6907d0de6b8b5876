/**
 * The head of a service's answer, judged and made ready for the client. RFC 9110 §6.4.1, §7.6.3, §15; RFC 9112 §4, §6.3.
 */
import { announcedFraming, encodeHead, endToEnd, type Framing, framingLines, parseFields } from './http-head.js';
import type { PlainRequest } from './negotiation.js';

const STATUS_LINE = /^HTTP\/1\.(\d) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/;
/** Nothing was asked to be switched: an answer that says so is an attempt to be taken for another protocol. */
const SWITCHING_PROTOCOLS = 101;

export interface AnswerHead {
  /** 1xx: the real answer follows. */
  readonly isInterim: boolean;
  readonly framing: Framing;
  /** As the client gets it; empty for an interim one that it would not understand. */
  readonly head: Uint8Array;
  /** Whether the client may send another request afterwards. */
  readonly keepsClient: boolean;
}

/** @param isRequestOver whether all of the request has been passed on. Undefined: this is not an answer to be passed on. */
export function judgeAnswer(
  [first, ...lines]: readonly string[],
  request: PlainRequest,
  isRequestOver: boolean,
): AnswerHead | undefined {
  const line = STATUS_LINE.exec(first!);
  const fields = parseFields(lines);
  if (line === null || fields === undefined) return undefined;
  const status = Number(line[2]);
  if (status === SWITCHING_PROTOCOLS) return undefined;
  const announced = announcedFraming(fields, line[1] === '0');
  if (typeof announced === 'string') return undefined;
  const isInterim = status < 200;
  const hasNoContent = isInterim || request.method === 'HEAD' || status === 204 || status === 304;
  const framing: Framing = hasNoContent ? { kind: 'none' } : (announced ?? { kind: 'close' });
  // A HEAD's answer tells the length of the content that GET would give.
  const told: Framing = status === 204 || isInterim ? { kind: 'none' } : (announced ?? { kind: 'none' });
  const keepsClient = request.keepAlive && isRequestOver && framing.kind !== 'close';
  const head = encodeHead([
    `HTTP/1.1 ${status} ${line[3] ?? ''}`,
    ...endToEnd(fields),
    ...(request.isHttp10 && told.kind === 'chunked' ? [] : framingLines(told)),
    'Via: 1.1 sallyport',
    ...(isInterim || keepsClient ? [] : ['Connection: close']),
  ]);
  return { isInterim, framing, head: isInterim && request.isHttp10 ? new Uint8Array(0) : head, keepsClient };
}
