const LONGEST_PART = 800;

/** Paragraphs, packed together up to a length that a model embeds well; a longer one is cut. */
export function splitText(text: string): string[] {
  const parts: string[] = [];
  let part = '';
  for (const paragraph of text.split(/\n\s*\n/).map((piece) => piece.trim())) {
    if (part !== '' && part.length + 2 + paragraph.length > LONGEST_PART) {
      parts.push(part);
      part = '';
    }
    part = part === '' ? paragraph : `${part}\n\n${paragraph}`;
    while (part.length > LONGEST_PART) {
      parts.push(part.slice(0, LONGEST_PART));
      part = part.slice(LONGEST_PART);
    }
  }
  if (part !== '') parts.push(part);
  return parts;
}
