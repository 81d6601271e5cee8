import { readFile, writeFile } from 'node:fs/promises';
import { format, resolveConfig } from 'prettier';

const page = new URL('../README.md', import.meta.url);
const BEGIN = '<!-- figures -->';
const END = '<!-- end of figures -->';

/** Replaces the figures on this folder's page, between its two marks. */
export async function putFigures(text: string): Promise<void> {
  const whole = withFigures(await readFile(page, 'utf8'), text);
  await writeFile(page, await format(whole, { ...(await resolveConfig(page)), parser: 'markdown' }));
}

export function withFigures(whole: string, text: string): string {
  const from = whole.indexOf(BEGIN);
  const to = whole.indexOf(END);
  if (from < 0 || to < from) throw new Error(`The page has no ${BEGIN} … ${END}`);
  return `${whole.slice(0, from + BEGIN.length)}\n\n${text}\n\n${whole.slice(to)}`;
}
