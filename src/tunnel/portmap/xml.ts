/**
 * The little XML that a gateway's description and its answers need, read strictly: elements and text, bounded in size and depth. No
 * document type, no processing instruction but the declaration, no CDATA, no entities but the five of XML 1.0 §4.6 and character
 * references: what has them is refused as a whole, as nothing here needs them and they are where parsers get hurt.
 */

/** Longest document read, in characters: real ones have 2 to 20 thousand. */
export const LONGEST_DOCUMENT = 65_536;
const DEEPEST = 16;
const MOST_ELEMENTS = 2000;

export interface XmlElement {
  /** Without its prefix. */
  readonly name: string;
  readonly children: readonly XmlElement[];
  /** Own text, trimmed; empty where there are children. */
  readonly text: string;
}

interface Open {
  /** With its prefix, as the end tag has to repeat it. */
  readonly tag: string;
  readonly children: XmlElement[];
  text: string;
}

const NAME = /^[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?/;
const ATTRIBUTES = /^(?:\s+[A-Za-z_][\w.:-]*\s*=\s*(?:"[^"<]*"|'[^'<]*'))*\s*$/;
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

/** Undefined when it is not what is read here. */
export function parseXml(document: string): XmlElement | undefined {
  if (document.length > LONGEST_DOCUMENT) return undefined;
  const text = document.replace(/^\uFEFF?<\?xml[^?>]*\?>/, '');
  const root: Open = { tag: '', children: [], text: '' };
  const stack: Open[] = [root];
  let elements = 0;
  for (let at = 0; at < text.length; ) {
    const top = stack[stack.length - 1]!;
    const start = text.indexOf('<', at);
    const between = unescapeXml(text.slice(at, start < 0 ? text.length : start));
    if (between === undefined) return undefined;
    top.text += between;
    if (start < 0) break;
    if (text.startsWith('<!--', start)) {
      const end = text.indexOf('-->', start + 4);
      if (end < 0) return undefined;
      at = end + 3;
      continue;
    }
    const end = text.indexOf('>', start);
    if (end < 0) return undefined;
    const inside = text.slice(start + 1, end);
    at = end + 1;
    if (inside.startsWith('/')) {
      if (stack.length === 1 || inside.slice(1).trim() !== top.tag) return undefined;
      stack.pop();
      stack[stack.length - 1]!.children.push(close(top));
      continue;
    }
    const isEmpty = inside.endsWith('/');
    const tag = NAME.exec(inside)?.[0];
    const rest = tag === undefined ? '' : inside.slice(tag.length, isEmpty ? -1 : undefined);
    if (tag === undefined || !ATTRIBUTES.test(rest) || ++elements > MOST_ELEMENTS) return undefined;
    const opened: Open = { tag, children: [], text: '' };
    if (isEmpty) top.children.push(close(opened));
    else if (stack.push(opened) > DEEPEST + 1) return undefined;
  }
  return stack.length === 1 && root.children.length === 1 && root.text.trim() === '' ? root.children[0] : undefined;
}

/** The element itself and all below it with this name, in document order. */
export function elementsNamed(root: XmlElement, name: string): XmlElement[] {
  return [...(root.name === name ? [root] : []), ...root.children.flatMap((child) => elementsNamed(child, name))];
}

/** Text of the first child with this name. */
export function childText(element: XmlElement, name: string): string | undefined {
  return element.children.find((child) => child.name === name)?.text;
}

export function escapeXml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

function close({ tag, children, text }: Open): XmlElement {
  return { name: tag.slice(tag.indexOf(':') + 1), children, text: children.length === 0 ? text.trim() : '' };
}

/** Undefined when it holds another entity. */
function unescapeXml(text: string): string | undefined {
  let isStrange = false;
  const result = text.replace(/&([^;]{0,10});?/g, (whole, name: string) => {
    const known = whole.endsWith(';') ? (ENTITIES[name] ?? character(name)) : undefined;
    isStrange ||= known === undefined;
    return known ?? '';
  });
  return isStrange ? undefined : result;
}

function character(reference: string): string | undefined {
  const match = /^#(?:x([0-9a-fA-F]{1,6})|(\d{1,7}))$/.exec(reference);
  if (match === null) return undefined;
  const code = match[1] === undefined ? Number(match[2]) : Number.parseInt(match[1], 16);
  return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : undefined;
}
