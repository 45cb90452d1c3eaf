/**
 * Finds web addresses in untrusted text. Only `http` and `https` ever become links, and what is shown is what was
 * written: the parts, joined, are the text, character by character.
 */

export type Part = { readonly text: string; readonly href?: string };

const ADDRESS = /https?:\/\/[^\s<>"'`{}|\\^“”‘’「」『』]+/gi;
const LINKS_MAX = 100;

export function partsOf(text: string): readonly Part[] {
  const parts: Part[] = [];
  let end = 0;
  for (const match of text.matchAll(ADDRESS)) {
    if (parts.length > LINKS_MAX * 2) break;
    const written = trimmed(match[0]);
    const href = webAddress(written);
    if (href === null) continue;
    if (match.index > end) parts.push({ text: text.slice(end, match.index) });
    parts.push({ text: written, href });
    end = match.index + written.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

/** A sentence's punctuation after an address is not part of it; a closing bracket is only when it opened inside. */
function trimmed(address: string): string {
  let text = address;
  for (;;) {
    const last = text.at(-1)!;
    const unopened = (last === ')' && !text.includes('(')) || (last === ']' && !text.includes('['));
    if (!unopened && !/[.,;:!?*_~)\]…。、，！？）]/.test(last)) return text;
    if ((last === ')' || last === ']') && !unopened) return text;
    text = text.slice(0, -1);
  }
}

function webAddress(text: string): string | null {
  try {
    const url = new URL(text);
    return (url.protocol === 'http:' || url.protocol === 'https:') && url.hostname !== '' ? url.href : null;
  } catch {
    return null;
  }
}
