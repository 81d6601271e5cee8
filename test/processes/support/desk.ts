import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Settlement } from 'nestjs-idempotency';
import { eventually } from '../../e2e/support/http-client.js';
import type { Instruction, PaidCall, Question, ReportedAbort, ReportedPoint, ReportedRun } from '../fixtures/config.js';

type Behaviour<Asked, Told> = (asked: Asked) => Told | Promise<Told>;

/**
 * Where the applications report each run of a handler, outside of everything that is under test; it
 * tells a run when and how to end. One that nobody waits for ends at once.
 */
export class Desk {
  readonly runs: ReportedRun[] = [];
  readonly aborts: ReportedAbort[] = [];
  readonly questions: Question[] = [];
  /** The bill: calls that cost money, in their order. A call's receipt is its place here. */
  readonly calls: PaidCall[] = [];
  readonly points: ReportedPoint[] = [];
  private readonly behaviours = new Map<string, Behaviour<ReportedRun, Instruction>>();
  private readonly holds = new Map<string, { readonly promise: Promise<void>; readonly resolve: () => void }>();
  private readonly answers = new Map<string, Behaviour<Question, Settlement | 'block'>>();
  private readonly server: Server;
  url = '';

  constructor() {
    this.server = createServer((request, response) => {
      void textOf(request)
        .then((text) => this.take(request.url ?? '', JSON.parse(text) as never))
        .then((told) => response.end(JSON.stringify(told)))
        // An application that was killed has no ear any more; one that waits for an answer would hang.
        .catch(() => response.destroy());
    });
  }

  static async open(): Promise<Desk> {
    const desk = new Desk();
    // Held runs are held for as long as the test likes.
    desk.server.requestTimeout = 0;
    await once(desk.server.listen(0, '127.0.0.1'), 'listening');
    desk.url = `http://127.0.0.1:${(desk.server.address() as AddressInfo).port}`;
    return desk;
  }

  close(): void {
    this.server.close();
    this.server.closeAllConnections();
  }

  runsOf(key: string): ReportedRun[] {
    return this.runs.filter((run) => run.key === key);
  }

  /** What runs of this key are told. */
  tell(key: string, behaviour: Instruction | Behaviour<ReportedRun, Instruction>): void {
    this.behaviours.set(key, typeof behaviour === 'function' ? behaviour : () => behaviour);
  }

  /** Runs of this key go on until `let(…)` is called; later ones are told the same then. */
  hold(key: string): (instruction?: Instruction) => void {
    const { promise, resolve } = deferred<Instruction>();
    this.tell(key, () => promise);
    return (instruction = {}) => resolve(instruction);
  }

  /** Whoever comes to this point with this key waits there until `letGo`. */
  holdAt(key: string, point: string): void {
    this.holds.set(JSON.stringify([key, point]), deferred<void>());
  }

  /** Those who wait there go on, and whoever comes from now on does not wait. */
  letGo(key: string, point: string): void {
    const place = JSON.stringify([key, point]);
    this.holds.get(place)?.resolve();
    this.holds.delete(place);
  }

  async untilAt(key: string, point: string, times = 1): Promise<void> {
    const there = () => this.points.filter((one) => one.key === key && one.point === point).length >= times;
    await eventually(there, `${key} is at '${point}'`, 60_000);
  }

  /** How many points a process has come to. */
  pointsOf(pid: number): number {
    return this.points.filter((one) => one.pid === pid).length;
  }

  callsOf(key: string): PaidCall[] {
    return this.calls.filter((call) => call.key === key);
  }

  /** What a recover function that asks for this key is told. */
  answer(key: string, answer: Behaviour<Question, Settlement | 'block'>): void {
    this.answers.set(key, answer);
  }

  /** Until so many handlers have begun with this key. */
  async untilRuns(key: string, count: number): Promise<ReportedRun[]> {
    await eventually(() => this.runsOf(key).length >= count, `${count} run(s) of ${key}`, 15_000);
    return this.runsOf(key);
  }

  private async take(path: string, body: never): Promise<unknown> {
    switch (path) {
      case '/runs': {
        const run: ReportedRun = body;
        this.runs.push(run);
        return (await this.behaviours.get(run.key)?.(run)) ?? {};
      }
      case '/points': {
        const point: ReportedPoint = body;
        this.points.push(point);
        await this.holds.get(JSON.stringify([point.key, point.point]))?.promise;
        return {};
      }
      case '/calls':
        return { receipt: this.calls.push(body) - 1 };
      case '/aborts':
        this.aborts.push(body);
        return {};
      case '/questions': {
        const question: Question = body;
        this.questions.push(question);
        return (await this.answers.get(question.key)?.(question)) ?? 'block';
      }
      default:
        throw new Error(`Nobody asks for ${path}`);
    }
  }
}

export function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((done) => (resolve = done));
  return { promise, resolve };
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
