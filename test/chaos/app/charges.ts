import { Agent, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { HttpException, InternalServerErrorException } from '@nestjs/common';
import type { IdempotencyRunContext } from 'nestjs-idempotency';
import { markOf } from '../checker/answers.js';
import { subjectOf, type EffectEvent } from '../checker/history.js';
import type { ChargeBody } from '../workload.js';
import type { CrashPoints } from './crash-points.js';
import type { Journal } from './journal.js';
import { insertPurchase, NOT_WRITTEN } from './purchases.js';
import { machineNow, type AppSettings } from './settings.js';

/** What the handlers do: an effect on the world outside, and an answer of the kind that the request asks for. */
export class Charges {
  private readonly agent = new Agent({ keepAlive: true });

  constructor(
    private readonly settings: AppSettings,
    private readonly points: CrashPoints,
    private readonly journal: Journal,
  ) {}

  async charge(operation: string, tenant: string, body: ChargeBody, run: IdempotencyRunContext): Promise<unknown> {
    const { server, secret, transaction } = this.settings;
    const subject = subjectOf(operation, tenant, run.key);
    const payload = JSON.stringify(body);
    const isBroken = body.kind === 'broken' && run.attempt === 1;
    if (isBroken && !transaction) throw new InternalServerErrorException('broken before its effect');
    await sleep(body.ms);
    this.points.at('before-effect');
    const { fencingToken: fence, attempt } = run;
    const effect: EffectEvent = { type: 'effect', subject, payload, server, fence, attempt, at: machineNow() };
    if (transaction) await this.write(effect, run);
    else await this.tellLedger(effect);
    this.points.at('after-effect');
    if (isBroken) throw new InternalServerErrorException('broken after its effect, which is undone');
    return answerOf(body, { run: fence, mark: markOf(secret, subject, payload) });
  }

  private async write(effect: EffectEvent, { manager }: IdempotencyRunContext): Promise<void> {
    try {
      await insertPurchase(manager, effect);
    } catch (cause) {
      throw new InternalServerErrorException(NOT_WRITTEN, { cause });
    }
    const { subject, server, fence } = effect;
    this.journal.write({ type: 'wrote', subject, server, fence, at: machineNow() });
  }

  private tellLedger(effect: EffectEvent): Promise<void> {
    return new Promise((resolve, reject) => {
      const { ledgerPort: port } = this.settings;
      const post = request({ host: '127.0.0.1', port, method: 'POST', agent: this.agent }, (response) => {
        response.resume().once('end', resolve);
      });
      post.once('error', reject);
      post.end(JSON.stringify(effect));
    });
  }
}

function answerOf({ kind }: ChargeBody, seal: { run: number; mark: string }): unknown {
  switch (kind) {
    case 'declined':
      throw new HttpException({ ...seal, reason: 'declined' }, 402);
    case 'huge':
      return { ...seal, filler: '.'.repeat(10_000) };
    case 'poison':
      return { ...seal, amount: 10n };
    case 'raw':
      // Bytes that no JSON serialiser would make again: spaces, a large number, a zero after the point.
      return `{ "run": ${seal.run}, "mark": "${seal.mark}", "amount": 9007199254740993, "rate": 1.0 }`;
    case 'plain':
    case 'broken':
      return { ...seal, name: 'Zoë ☕', 10: 'ten', 9: 'nine', at: new Date().toISOString() };
  }
}
