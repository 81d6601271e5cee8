import { Body, Controller, Post, UnprocessableEntityException, type INestApplication } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import {
  cloudEventKey,
  Idempotent,
  IdempotencyContext,
  webhookKey,
  type IdempotencyRunContext,
} from 'nestjs-idempotency';
import { ADAPTERS, startApp, type RunningApp } from './support/app.js';
import { eventually, send } from './support/http-client.js';

let runs: string[] = [];
let gate: (() => void) | undefined;

@Controller()
class EventsController {
  @Post('events') @Idempotent({ key: cloudEventKey }) event(@IdempotencyContext() context: IdempotencyRunContext) {
    runs.push(context.key);
    return { key: context.key };
  }

  @Post('webhooks')
  @Idempotent({ key: webhookKey, retention: '7d' })
  async webhook(
    @Body() body: { waits?: boolean; refused?: boolean },
    @IdempotencyContext() context: IdempotencyRunContext,
  ) {
    runs.push(context.key);
    if (body.waits) await new Promise<void>((resolve) => (gate = resolve));
    if (body.refused) throw new UnprocessableEntityException();
    return { ok: true };
  }
}

const EVENT_TYPES = ['application/cloudevents+json', 'application/cloudevents-batch+json'];

/** As an application has to do that wants events in structured mode. */
function readEvents(app: INestApplication, adapter: string): void {
  if (adapter === 'express') {
    (app as NestExpressApplication).useBodyParser('json', { type: ['application/json', ...EVENT_TYPES] });
  } else {
    (app as NestFastifyApplication).useBodyParser(EVENT_TYPES, {}, (_request, body, done) =>
      done(null, JSON.parse(body.toString())),
    );
  }
}

describe.each(ADAPTERS)('ready keys on %s', (adapter) => {
  let running: RunningApp;

  beforeAll(async () => {
    running = await startApp({
      adapter,
      controllers: [EventsController],
      setup: (app) => readEvents(app, adapter),
    });
  });
  afterAll(() => running.close());
  beforeEach(() => {
    runs = [];
    gate = undefined;
  });

  const post = (path: string, headers: Record<string, string | string[]>, body: unknown = {}) =>
    send(`${running.url}/${path}`, { headers, body });
  const structured = { 'content-type': 'application/cloudevents+json' };

  describe('cloudEventKey', () => {
    it('names an event by source and id, in binary and in structured mode', async () => {
      const binary = { 'ce-specversion': '1.0', 'ce-type': 't', 'ce-source': '/shop', 'ce-id': '1' };
      const first = await post('events', binary);
      expect(first.status).toBe(201);
      expect((await post('events', binary)).headers['idempotent-replayed']).toBe('true');
      await post('events', { ...binary, 'ce-source': '/shop/1', 'ce-id': '2' });
      await post('events', structured, { specversion: '1.0', type: 't', source: '/mail', id: '1' });
      await post('events', structured, { id: '1', type: 't', source: '/mail', specversion: '1.0' });
      expect(runs).toEqual(['5:/shop:1', '7:/shop/1:2', '5:/mail:1']);
    });

    it('takes no two pairs for one', async () => {
      const pairs = [
        ['a:b', 'c'],
        ['a', 'b:c'],
        ['1:a', 'b'],
        ['a', '1:b'],
      ];
      for (const [source, id] of pairs) await post('events', { 'ce-source': source!, 'ce-id': id! });
      expect(new Set(runs).size).toBe(pairs.length);
    });

    it('reads what headers have to encode, and hashes what no key can hold', async () => {
      const names = [
        { 'ce-source': '/caf%C3%A9', 'ce-id': 'a%20b' },
        { 'ce-source': '"/quoted \\"text\\""', 'ce-id': '1' },
        { 'ce-source': '/not%zzencoded', 'ce-id': '1' },
        { 'ce-source': `/${'x'.repeat(300)}`, 'ce-id': '1' },
      ];
      for (const headers of names) await post('events', headers);
      await post('events', structured, { specversion: '1.0', source: '/café', id: 'a b' });
      expect(runs[0]).toMatch(/^sha256:[\w-]{43}$/);
      expect(runs[1]).toBe('14:/quoted "text":1');
      expect(runs[2]).toBe('14:/not%zzencoded:1');
      expect(runs[3]).toMatch(/^sha256:/);
      // The same event in the other mode has another body, so that it is told apart, but its key is the same.
      expect(runs).toHaveLength(4);
      expect(new Set(runs).size).toBe(4);
    });

    it.each([
      ['no event at all', {}, {}, 'idempotency_key_missing'],
      ['an order with an id', {}, { id: '1', source: 'web' }, 'idempotency_key_missing'],
      ['no source', { 'ce-id': '1' }, {}, 'idempotency_key_invalid'],
      ['an empty id', { 'ce-source': '/a', 'ce-id': '' }, {}, 'idempotency_key_invalid'],
      ['two ids', { 'ce-source': '/a', 'ce-id': ['1', '2'] }, {}, 'idempotency_key_invalid'],
      ['an id that is a number', structured, { specversion: '1.0', source: '/a', id: 1 }, 'idempotency_key_invalid'],
      ['a source that is null', structured, { specversion: '1.0', source: null, id: 'a' }, 'idempotency_key_invalid'],
      ['neither, but a version', structured, { specversion: '1.0' }, 'idempotency_key_invalid'],
      ['a batch', { 'content-type': 'application/cloudevents-batch+json' }, [], 'idempotency_key_invalid'],
      [
        'headers beside a structured event that has none',
        { ...structured, 'ce-id': '1', 'ce-source': '/a' },
        { id: '1' },
        'idempotency_key_missing',
      ],
    ])('refuses %s', async (_, headers, body, code) => {
      const answer = await post('events', headers as Record<string, string>, body);
      expect([answer.status, (answer.json() as { code: string }).code]).toEqual([400, code]);
      expect(runs).toEqual([]);
    });
  });

  describe('webhookKey', () => {
    it('a retry of a webhook that was taken gets its 2xx', async () => {
      const first = await post('webhooks', { 'webhook-id': 'msg_1', 'webhook-timestamp': '1' });
      const retry = await post('webhooks', { 'webhook-id': 'msg_1', 'webhook-timestamp': '2' });
      expect([first.status, retry.status, retry.text]).toEqual([201, 201, first.text]);
      expect(runs).toEqual(['msg_1']);
    });

    it('one that comes while the first is being handled is told to come again', async () => {
      const first = post('webhooks', { 'webhook-id': 'msg_2' }, { waits: true });
      await eventually(() => gate !== undefined, 'the handler');
      const early = await post('webhooks', { 'webhook-id': 'msg_2' }, { waits: true });
      expect(early.status).toBe(409);
      expect(Number(early.headers['retry-after'])).toBeGreaterThan(0);
      gate!();
      expect((await first).status).toBe(201);
      expect((await post('webhooks', { 'webhook-id': 'msg_2' }, { waits: true })).status).toBe(201);
      expect(runs).toEqual(['msg_2']);
    });

    it.each([
      ['none', {}, 'idempotency_key_missing'],
      ['an empty one', { 'webhook-id': '' }, 'idempotency_key_invalid'],
      ['two', { 'webhook-id': ['a', 'b'] }, 'idempotency_key_invalid'],
      ['a long one', { 'webhook-id': 'x'.repeat(256) }, 'idempotency_key_invalid'],
    ])('refuses a webhook with %s', async (_, headers, code) => {
      const answer = await post('webhooks', headers as Record<string, string>);
      expect([answer.status, (answer.json() as { code: string }).code]).toEqual([400, code]);
      expect(runs).toEqual([]);
    });
  });
});
