import { styleText } from 'node:util';
import type { Answer } from './client.js';
import { dollars } from '../usage/prices.js';
import type { Bill } from './bill.js';
import { eventsOf, tokensOf } from './stream-client.js';

interface StepResult {
  readonly title: string;
  readonly answers: string;
  readonly bill: Bill;
  readonly failures: readonly string[];
}

/** The headers that tell a client what happened. */
const TELLING = [
  ...['idempotent-replayed', 'idempotency-stream', 'retry-after', 'x-should-retry', 'content-type', 'link'],
] as const;

/** Prints the story while it happens, and a table at its end. */
export class Report {
  private readonly steps: StepResult[] = [];
  private readonly startedAt = performance.now();
  private aborted = false;

  get isGood(): boolean {
    return !this.aborted && this.steps.length > 0 && this.steps.every(({ failures }) => failures.length === 0);
  }

  get nextNumber(): number {
    return this.steps.length + 1;
  }

  title(title: string): void {
    print(`\n${paint('bold', `${this.nextNumber}. ${title}`)}`);
  }

  note(text: string): void {
    for (const line of text.split('\n')) print(paint('dim', `   ${line}`));
  }

  answer(what: string, { status, headers, body }: Answer): void {
    print(`   ${what}`);
    const isStream = headers.get('content-type')?.startsWith('text/event-stream');
    const words = isStream ? gistOfStream(body) : gist(body);
    print(`   → ${paint(status < 400 ? 'green' : 'yellow', String(status))} ${words}`);
    for (const name of TELLING) {
      const value = headers.get(name);
      if (value !== null) print(paint('dim', `     ${name}: ${value}`));
    }
  }

  check(what: string, holds: boolean): void {
    print(holds ? paint('green', `   ✓ ${what}`) : paint('red', `   ✗ ${what}`));
  }

  bill(now: Bill, before: Bill): void {
    const runs = `${now.runs} (+${now.runs - before.runs})`;
    const calls = `${now.modelCalls} (+${now.modelCalls - before.modelCalls})`;
    const cost = `$${dollars(now.microUsd)} (+$${dollars(now.microUsd - before.microUsd)})`;
    print(
      `   handler runs ${runs} · model calls ${calls} · bill ${cost} · credits ${now.credits} · charges ${now.charges}`,
    );
  }

  end(step: StepResult): void {
    this.steps.push(step);
  }

  abort(reason: string): void {
    this.aborted = true;
    print(paint('red', `\nThe story broke off: ${reason}`));
  }

  summary(): void {
    const rows = this.steps.map(({ title, answers, bill, failures }, index) => [
      String(index + 1),
      title,
      answers,
      String(bill.runs),
      String(bill.modelCalls),
      `$${dollars(bill.microUsd)}`,
      failures.length === 0 ? 'ok' : 'FAILED',
    ]);
    print(`\n${table([['', 'step', 'answers', 'runs', 'calls', 'bill', ''], ...rows])}\n`);
    for (const { title, failures } of this.steps) {
      for (const failure of failures) print(paint('red', `✗ ${title}: ${failure}`));
    }
    const seconds = ((performance.now() - this.startedAt) / 1000).toFixed(1);
    const verdict = this.isGood ? 'All steps went as promised' : 'Not all steps went as promised';
    print(paint(this.isGood ? 'green' : 'red', `${verdict} (${this.steps.length} steps, ${seconds} s).`));
  }
}

function table(rows: readonly string[][]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
  lines.splice(1, 0, widths.map((width) => '─'.repeat(width)).join('  '));
  return lines.join('\n');
}

/** What a reader wants to see of a body: the reason of an error, the words of the model, or the start of it. */
function gist(body: string): string {
  const { detail, code, error, choices } = JSON.parse(body) as {
    detail?: string;
    code?: string;
    error?: { message: string };
    choices?: { message: { content: string } }[];
  };
  if (detail !== undefined) return `${code}: ${detail}`;
  const text = choices?.[0]?.message.content ?? error?.message ?? body;
  return text.length > 160 ? `${text.slice(0, 157)}…` : text;
}

/** The words of the model with a mark between tokens, and how it ended. */
function gistOfStream(body: string): string {
  const events = eventsOf(body);
  const last = events.at(-1);
  const end = last?.event ?? (last?.data === '[DONE]' ? last.data : '…');
  return `${tokensOf(events).join('|')} ${end}`;
}

type Style = Extract<Parameters<typeof styleText>[0], string>;

/** In a log file, colours are only noise. */
function paint(style: Style, text: string): string {
  return process.stdout.isTTY ? styleText(style, text) : text;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
