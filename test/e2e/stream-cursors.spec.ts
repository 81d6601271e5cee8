import { Body, Controller, Get, HttpCode, type MessageEvent, Post, RequestMethod, Sse } from '@nestjs/common';
import { from, type Observable } from 'rxjs';
import { Idempotent, IdempotencyService, memoryStore, type IdempotencyStore } from 'nestjs-idempotency';
import { ADAPTERS, startApp, type RunningApp } from './support/app.js';
import { send, type Answer } from './support/http-client.js';

let calls = 0;

@Controller('c')
@Idempotent()
class CursorsController {
  @Sse('events', { method: RequestMethod.POST })
  @HttpCode(200)
  events(@Body() { n }: { n: number }): Observable<MessageEvent> {
    calls += 1;
    return from(Array.from({ length: n }, (_, i) => ({ data: `${i + 1}` })));
  }

  /** A body that is complete at once is no stream. */
  @Post('plain')
  plain() {
    calls += 1;
    return { plain: true };
  }

  @Get('read')
  read() {
    calls += 1;
    return 'read';
  }
}

describe.each(ADAPTERS)('Last-Event-ID on %s', (adapter) => {
  let store: IdempotencyStore;
  let app: RunningApp;

  beforeAll(async () => {
    store = memoryStore();
    app = await startApp({ adapter, controllers: [CursorsController], idempotency: { store } });
  });
  afterAll(() => app.close());
  beforeEach(() => (calls = 0));

  const ask = (key: string, cursor?: string | string[], n = 3, path = 'events'): Promise<Answer> =>
    send(`${app.url}/c/${path}`, {
      body: { n },
      headers: { 'idempotency-key': key, ...(cursor === undefined ? {} : { 'last-event-id': cursor }) },
    });
  const idsOf = ({ text }: Answer): string[] => [...text.matchAll(/^id: (.+)$/gm)].map(([, id]) => id!);
  const refused = (answer: Answer): unknown[] => [answer.status, answer.json()['code']];

  it('resumes strictly after it, at every place', async () => {
    const ids = idsOf(await ask('every'));
    for (const [i, id] of ids.entries()) {
      expect(idsOf(await ask('every', id))).toEqual(ids.slice(i + 1));
    }
    expect(idsOf(await ask('every', ids[0]!.replace(/\d+$/, '0')))).toEqual(ids);
    expect(idsOf(await ask('every', ''))).toEqual(ids);
    expect(calls).toBe(1);
  });

  it('two of them, or one that is none of ours: 400, and nothing is called', async () => {
    const [id] = idsOf(await ask('bad'));
    const [token, attempt] = id!.split('.');
    calls = 0;
    const bad: (string | string[])[] = [
      [id!, id!],
      `${id}, ${id}`,
      `${token}.${attempt}`,
      `${token}.${attempt}.-1`,
      `${token}.${attempt}.1e3`,
      `${token}.${attempt}.01x`,
      `${token}.0.1`,
      `${token}.${attempt}.9999999999999`,
      `${'x'.repeat(16)}.1.1`,
      `${token}.2.1`,
      `${token}.1.4`,
      '1',
      'x'.repeat(4_000),
      '<script>',
    ];
    for (const cursor of bad) {
      for (const answer of [await ask('bad', cursor), await ask(`new-${calls}`, '1')]) {
        expect([cursor, ...refused(answer)]).toEqual([cursor, 400, 'idempotency_cursor_invalid']);
        expect(answer.json()).toMatchObject({ error: { type: 'idempotency_error', param: 'Last-Event-ID' } });
        // It may be anything, and is not shown to anybody.
        expect(answer.text).not.toContain('script');
      }
    }
    expect(calls).toBe(0);
  });

  it('of another stream: 400; of a record that is gone or never was: 410; with another payload: 422', async () => {
    const [id] = idsOf(await ask('here'));
    await ask('there');
    calls = 0;
    expect(refused(await ask('there', id))).toEqual([400, 'idempotency_cursor_invalid']);
    expect(refused(await ask('here', id, 4))).toEqual([422, 'idempotency_key_reused']);
    expect(refused(await ask('never', id))).toEqual([410, 'idempotency_response_not_kept']);
    const service = app.app.get(IdempotencyService);
    expect(await service.forget({ operation: 'POST /c/events', scope: 'global', key: 'here' })).toBe(true);
    for (const cursor of [id!, id!.replace(/\d+$/, '0')]) {
      expect(refused(await ask('here', cursor))).toEqual([410, 'idempotency_response_not_kept']);
    }
    expect(calls).toBe(0);
  });

  it('for an answer that is no stream: 400; on a method that needs no key it is nobody’s', async () => {
    const [id] = idsOf(await ask('stream'));
    await ask('plain', undefined, 3, 'plain');
    calls = 0;
    expect(refused(await ask('plain', id, 3, 'plain'))).toEqual([400, 'idempotency_cursor_invalid']);
    expect(calls).toBe(0);
    const read = await send(`${app.url}/c/read`, { method: 'GET', headers: { 'last-event-id': 'nonsense' } });
    expect([read.status, read.text]).toEqual([200, 'read']);
  });
});
