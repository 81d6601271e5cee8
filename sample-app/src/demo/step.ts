import { setTimeout as pause } from 'node:timers/promises';
import { NO_BILL, readBill, type Bill } from './bill.js';
import { codeOf, isReplay, send, sendUntilSettled, type Answer, type Call } from './client.js';
import type { Report } from './report.js';
import type { Instance } from './stage.js';

const PATIENCE_MS = 20_000;

/** One step of the story: sends, expects, and looks at the bill at its end. */
export class Step {
  readonly failures: string[] = [];
  private readonly answers: string[] = [];

  constructor(
    private readonly report: Report,
    readonly billBefore: Bill,
  ) {}

  say(text: string): void {
    this.report.note(text);
  }

  async send(instance: Instance, call: Call, what = ''): Promise<Answer> {
    const answer = await send(instance.url, call);
    this.show(answer, call, what);
    return answer;
  }

  /** As a well-behaved client: a 409 that says "in progress" is asked again. */
  async sendUntilSettled(instance: Instance, call: Call, what = ''): Promise<{ answer: Answer; conflicts: Answer[] }> {
    const settled = await sendUntilSettled(instance.url, call);
    if (settled.conflicts.length > 0) {
      this.show(settled.conflicts[0]!, call, what);
      this.say(`(asked again as told by retry-after, ${settled.conflicts.length} × 409)`);
    }
    this.show(settled.answer, call, what);
    return settled;
  }

  show(answer: Answer, { path, key }: Call, what: string): void {
    this.answers.push(`${answer.status}${isReplay(answer) ? ' replay' : ''}`);
    this.report.answer(
      `POST ${path}${key === undefined ? '' : `  key ${shortKey(key)}`}${what && `  (${what})`}`,
      answer,
    );
  }

  expect(what: string, holds: boolean): void {
    this.report.check(what, holds);
    if (!holds) this.failures.push(what);
  }

  expectFirst(answer: Answer, status = 200): void {
    this.expect(`${status}, and no replay`, answer.status === status && !isReplay(answer));
  }

  /** The same status, type and bytes. */
  expectReplayOf(first: Answer, answer: Answer): void {
    const sameType = answer.headers.get('content-type') === first.headers.get('content-type');
    const same = answer.status === first.status && sameType && answer.body === first.body;
    this.expect('the first answer again, byte for byte, marked as a replay', same && isReplay(answer));
  }

  expectProblem(answer: Answer, status: number, code: string): void {
    this.expect(
      `${status} ${code}, as application/problem+json`,
      answer.status === status && codeOf(answer) === code && isProblem(answer),
    );
  }

  /** Looks at the bill until it shows what it must, for as long as `patienceMs`. */
  untilBill(instance: Instance, shows: (bill: Bill) => boolean, patienceMs = PATIENCE_MS): Promise<boolean> {
    return this.until(async () => shows(await readBill(instance.url)), patienceMs);
  }

  /** Resolves with false where it does not come true within `patienceMs`. */
  async until(holds: () => Promise<boolean>, patienceMs = PATIENCE_MS): Promise<boolean> {
    const until = performance.now() + patienceMs;
    for (;;) {
      if (await holds()) return true;
      if (performance.now() > until) return false;
      await pause(25);
    }
  }

  async expectBill(instance: Instance, expected: Partial<Omit<Bill, 'microUsd'>>): Promise<Bill> {
    const { billBefore: before } = this;
    const now = await readBill(instance.url);
    this.report.bill(now, before);
    for (const [item, words] of Object.entries(WORDS) as [keyof typeof WORDS, (count: number) => string][]) {
      const count = expected[item] ?? 0;
      this.expect(words(count), now[item] - before[item] === count);
    }
    return now;
  }

  get summary(): string {
    return this.answers.join(', ');
  }
}

/** Runs steps one after the other and carries the bill from one to the next. */
export class Steps {
  private bill: Bill = NO_BILL;

  constructor(private readonly report: Report) {}

  /** `play` gives the bill as it stands at the end of the step. */
  async step(title: string, play: (step: Step) => Promise<Bill>): Promise<void> {
    this.report.title(title);
    const step = new Step(this.report, this.bill);
    this.bill = await play(step);
    this.report.end({ title, answers: step.summary, bill: this.bill, failures: step.failures });
  }
}

/** Keys are random, so that the story can be told again over the same records; their first word says enough. */
function shortKey(key: string): string {
  const word = key.replace(/-[0-9a-f]{8}-[0-9a-f-]{27}/, '');
  return word.length > 40 ? `${word.slice(0, 24)}… (${word.length} bytes)` : word;
}

function isProblem({ headers, body, status }: Answer): boolean {
  const problem = JSON.parse(body) as {
    type?: string;
    title?: string;
    detail?: string;
    status?: number;
    error?: object;
  };
  return (
    headers.get('content-type') === 'application/problem+json' &&
    headers.get('cache-control') === 'no-store' &&
    /rel="describedby"/.test(headers.get('link') ?? '') &&
    problem.status === status &&
    URL.canParse(problem.type ?? '') &&
    typeof problem.title === 'string' &&
    typeof problem.detail === 'string' &&
    typeof problem.error === 'object'
  );
}

const WORDS = {
  runs: (count: number) => (count === 0 ? 'no handler ran' : `the handler ran ${times(count)}`),
  modelCalls: (count: number) => (count === 0 ? 'the model was not called' : `the model was called ${times(count)}`),
  charges: (count: number) => (count === 0 ? 'nobody was charged' : `the customer was charged ${times(count)}`),
  credits: (count: number) => (count === 0 ? 'no credits were bought' : `${count} credits were bought`),
};

function times(count: number): string {
  return count === 1 ? 'once' : `${count} times`;
}
