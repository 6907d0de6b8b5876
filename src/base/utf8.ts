/**
 * UTF-8 (RFC 3629) to and from bytes. Encoding needs nothing but ECMAScript, because captures of an engine in a bare context hold names;
 * decoding is the host's Encoding Standard object, which no ECMAScript library type names.
 */
declare const TextDecoder: new (label: 'utf-8', options: { fatal: boolean }) => { decode(bytes: Uint8Array): string };

/** What stands for half a surrogate pair, as in the Encoding Standard: U+FFFD. */
const REPLACEMENT = 0xfffd;

let decoder: { decode(bytes: Uint8Array): string } | undefined;

export function encodeUtf8(text: string): Uint8Array {
  const bytes = new Uint8Array(3 * text.length);
  let end = 0;
  for (const character of text) {
    const point = character.codePointAt(0)!;
    const code = point >= 0xd800 && point <= 0xdfff ? REPLACEMENT : point;
    if (code < 0x80) {
      bytes[end++] = code;
      continue;
    }
    if (code < 0x800) bytes[end++] = 0xc0 | (code >>> 6);
    else {
      if (code < 0x1_0000) bytes[end++] = 0xe0 | (code >>> 12);
      else {
        bytes[end++] = 0xf0 | (code >>> 18);
        bytes[end++] = 0x80 | ((code >>> 12) & 0x3f);
      }
      bytes[end++] = 0x80 | ((code >>> 6) & 0x3f);
    }
    bytes[end++] = 0x80 | (code & 0x3f);
  }
  return bytes.slice(0, end);
}

/** @throws TypeError when the bytes are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string {
  decoder ??= new TextDecoder('utf-8', { fatal: true });
  return decoder.decode(bytes);
}
