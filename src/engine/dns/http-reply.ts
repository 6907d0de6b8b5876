/**
 * One HTTP/1.1 response, read from a stream: status, and a body of known length or in chunks; bounded, strict.
 *
 *   HTTP/1.1 200 OK CRLF · name: value CRLF … · CRLF · body | (hex length CRLF · bytes CRLF)… 0 CRLF CRLF
 *
 * RFC 9112 §4–7. A body that ends with the connection, trailers and both lengths at once are refused: no DNS server needs them.
 */

const HEAD_MAX = 16_384;
/** A DNS message's length. */
const BODY_MAX = 65_535;

export class HttpReply {
  status = 0;
  keepAlive = true;
  body = new Uint8Array(0);
  #head = '';
  #state: 'head' | 'body' | 'chunk-size' | 'chunk' | 'chunk-end' | 'last' | 'done' | 'bad' = 'head';
  #line = '';
  /** Bytes of the body or chunk still to come. */
  #left = 0;

  /** The next bytes; `bad` is final. Bytes behind the response are bad too: nothing was asked for yet. */
  feed(bytes: Uint8Array, offset: number, length: number): 'more' | 'done' | 'bad' {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      if (this.#state === 'done') this.#state = 'bad';
      if (this.#state === 'bad') return 'bad';
      if (this.#state === 'body' || this.#state === 'chunk') at = this.#take(bytes, at, end);
      else this.#character(bytes[at++]!);
    }
    return this.#state === 'done' || this.#state === 'bad' ? this.#state : 'more';
  }

  #take(bytes: Uint8Array, at: number, end: number): number {
    const n = Math.min(end - at, this.#left);
    const body = new Uint8Array(this.body.length + n);
    body.set(this.body);
    body.set(bytes.subarray(at, at + n), this.body.length);
    this.body = body;
    this.#left -= n;
    if (this.#left === 0) this.#state = this.#state === 'body' ? 'done' : 'chunk-end';
    return at + n;
  }

  #character(byte: number): void {
    if (this.#state === 'head') {
      this.#head += String.fromCharCode(byte);
      if (byte === 0x0a && this.#head.endsWith('\r\n\r\n')) this.#readHead();
      else if (this.#head.length >= HEAD_MAX) this.#state = 'bad';
      return;
    }
    this.#line += String.fromCharCode(byte);
    if (this.#line.length > 64) this.#state = 'bad';
    if (byte !== 0x0a || !this.#line.endsWith('\r\n')) return;
    const line = this.#line.slice(0, -2);
    this.#line = '';
    if (this.#state === 'chunk-size') this.#chunkSize(line);
    else if (line !== '') this.#state = 'bad';
    else this.#state = this.#state === 'last' ? 'done' : 'chunk-size';
  }

  #chunkSize(line: string): void {
    const match = /^([0-9a-fA-F]{1,5})(?:;.*)?$/.exec(line);
    this.#left = match === null ? Number.NaN : Number.parseInt(match[1]!, 16);
    if (!(this.body.length + this.#left <= BODY_MAX)) this.#state = 'bad';
    else this.#state = this.#left === 0 ? 'last' : 'chunk';
  }

  #readHead(): void {
    const [first, ...lines] = this.#head.slice(0, -4).split('\r\n');
    const status = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(first!);
    const fields = new Map<string, string>();
    for (const line of lines) {
      const field = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line);
      if (field === null || (fields.has(field[1]!.toLowerCase()) && /^content-length|^transfer/i.test(line))) {
        this.#state = 'bad';
        return;
      }
      fields.set(field[1]!.toLowerCase(), field[2]!.toLowerCase());
    }
    if (status === null) {
      this.#state = 'bad';
      return;
    }
    this.status = Number(status[2]);
    const connection = fields.get('connection') ?? '';
    this.keepAlive = status[1] === '1' ? connection !== 'close' : connection === 'keep-alive';
    const length = fields.get('content-length');
    const coding = fields.get('transfer-encoding');
    if (this.status < 200) {
      // 100 Continue and the like come before the response.
      this.#head = '';
    } else if (coding === 'chunked' && length === undefined) this.#state = 'chunk-size';
    else if (coding === undefined && length !== undefined && /^\d{1,5}$/.test(length) && Number(length) <= BODY_MAX) {
      this.#left = Number(length);
      this.#state = this.#left === 0 ? 'done' : 'body';
    } else this.#state = 'bad';
  }
}
