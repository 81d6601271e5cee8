import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, type Answer } from '../e2e/support/http-client.js';
import {
  codeOf,
  expectInProgress,
  expectOutcomeUnknown,
  expectReplayOf,
  expectStoreUnavailable,
  isReplay,
} from './support/answers.js';
import { Applications, BOOT_MS, jobOf } from './support/applications.js';
import { Desk } from './support/desk.js';
import { describeServers, type OwnServer } from './support/places.js';
import { Stalls } from './support/stalls.js';

/** Of every call to the store. */
const DEADLINE_MS = 600;
/** What the answer may take beyond the deadline, and beyond what the machine itself stood still for. */
const MARGIN_MS = 100;
const PATIENCE_MS = 15_000;
/** Many times what an application waits for more hints to go along with one. */
const HINTS_ARE_SENT_MS = 250;

interface Fault {
  begin(server: OwnServer): unknown;
  end(server: OwnServer): unknown;
}

const stopped: Fault = { begin: (server) => server.kill(), end: (server) => server.restart() };
const frozen: Fault = { begin: (server) => server.pause(), end: (server) => server.resume() };
const cutOff: Fault = {
  async begin({ proxy }) {
    await proxy.refuse(true);
    proxy.cutAll();
  },
  end: ({ proxy }) => proxy.refuse(false),
};
const silent: Fault = {
  begin: ({ proxy }) => proxy.blackhole(true),
  end: ({ proxy }) => proxy.blackhole(false),
};
const repliesLost: Fault = {
  begin: ({ proxy }) => proxy.dropReplies(true),
  end: ({ proxy }) => proxy.dropReplies(false),
};

describeServers('the store goes away', (backend) => {
  let desk: Desk;
  let server: OwnServer;
  let apps: Applications;
  let stalls: Stalls;

  beforeAll(async () => {
    stalls = new Stalls();
    desk = await Desk.open();
    server = await backend.own(DEADLINE_MS);
    apps = await Applications.start(2, desk, { store: server.store });
  }, BOOT_MS);

  afterAll(async () => {
    await apps?.close();
    await server?.close();
    desk?.close();
    stalls?.stop();
  });

  // Each case begins with a store that answers both applications.
  beforeEach(async () => {
    for (const app of apps.all) {
      const well = async () => (await app.job('plain', { key: `well-${Math.random()}` })).status === 201;
      await eventually(well, 'the store is there', PATIENCE_MS);
    }
  }, 60_000);

  describe('before the claim', () => {
    it.each(Object.entries({ stopped, frozen, cutOff, silent, repliesLost }))(
      '%s: 503 in time, no handler runs; works again by itself, and the key is free',
      async (name, fault) => {
        const keys = Array.from({ length: 6 }, (_, index) => `before-${name}-${index}`);
        await fault.begin(server);
        stalls.take();
        for (const app of apps.all) await app.stats();
        const asked = keys.flatMap((key) => apps.all.map((app) => timed(app.job('plain', { key }))));
        const answers = await Promise.all(asked);
        // What kept these processes from running at all is the machine's, and was measured while they waited.
        const stood = await Promise.all(apps.all.map((app) => app.stats()));
        const slack = stalls.take() + Math.max(...stood.map(({ stallMs }) => stallMs));
        for (const { answer, ms } of answers) {
          expectStoreUnavailable(answer);
          expect(ms).toBeLessThan(DEADLINE_MS + MARGIN_MS + slack);
        }
        for (const key of keys) expect(desk.runsOf(key)).toEqual([]);

        await fault.end(server);
        for (const [index, key] of keys.entries()) {
          const answer = await askUntilItWorks(index, 'plain', key);
          expect(isReplay(answer)).toBe(false);
          expect(jobOf(answer).attempt).toBe(1);
          expectReplayOf(answer, await askUntilItWorks(index + 1, 'plain', key));
          expect(desk.runsOf(key)).toHaveLength(1);
        }
      },
      60_000,
    );

    it("the claim's reply is lost: one run, whether the client hears of it or sends the request again", async () => {
      for (const [index, app] of apps.all.entries()) {
        const key = `claim-reply-lost-${index}`;
        server.proxy.dropReplies(1);
        const first = await app.job('plain', { key });
        const answer = first.status === 201 ? first : await askUntilItWorks(index, 'plain', key);
        if (first.status !== 201) expectStoreUnavailable(first);
        expect(jobOf(answer).attempt).toBe(1);
        expectReplayOf(answer, await askUntilItWorks(index + 1, 'plain', key));
        expect(desk.runsOf(key)).toHaveLength(1);
      }
    }, 60_000);
  });

  describe('while the handler runs', () => {
    it.each(Object.entries({ stopped, frozen, cutOff, silent }))(
      '%s for less than the lease: the answer is withheld until it is recorded',
      async (name, fault) => {
        const keys = apps.all.map((_, index) => `short-${name}-${index}`);
        const lets = keys.map((key) => desk.hold(key));
        const answered: string[] = [];
        const sent = keys.map((key, index) => apps.at(index).job('plain', { key }));
        for (const [index, key] of keys.entries()) {
          await desk.untilRuns(key, 1);
          void sent[index]!.then(() => answered.push(key));
        }
        await fault.begin(server);
        for (const goOn of lets) goOn({ lasts: 50 });
        // Longer than a call to the store takes to fail: by then the write has been tried, and tried again.
        await new Promise((resolve) => setTimeout(resolve, 1.5 * DEADLINE_MS));
        expect(answered).toEqual([]);
        await fault.end(server);
        for (const [index, key] of keys.entries()) {
          const answer = await sent[index]!;
          expect(isReplay(answer)).toBe(false);
          expect(jobOf(answer).attempt).toBe(1);
          expectReplayOf(answer, await askUntilItWorks(index + 1, 'plain', key));
          expect(desk.runsOf(key)).toHaveLength(1);
        }
      },
      60_000,
    );

    it("the reply to the record's writing is lost: one 2xx, and the retry is its replay", async () => {
      for (const [index, app] of apps.all.entries()) {
        const key = `complete-reply-lost-${index}`;
        const goOn = desk.hold(key);
        const sent = app.job('plain', { key });
        await desk.untilRuns(key, 1);
        server.proxy.dropReplies(1);
        goOn();
        const answer = await sent;
        expect(isReplay(answer)).toBe(false);
        expect(jobOf(answer).attempt).toBe(1);
        expectReplayOf(answer, await askUntilItWorks(index + 1, 'plain', key));
        expect(desk.runsOf(key)).toHaveLength(1);
      }
    }, 60_000);

    it.each(Object.entries({ stopped, frozen, silent }))(
      '%s for longer than the lease: 409 outcome unknown, and so it is for every retry',
      async (name, fault) => {
        const keys = apps.all.map((_, index) => `long-${name}-${index}`);
        const answers = await answersBeyondTheLease(keys, fault);
        for (const [index, key] of keys.entries()) {
          expectOutcomeUnknown(answers[index]!);
          // The last statement of before may still be on its way; it comes too late whenever it comes.
          for (let retries = 0; retries < 4; retries++) {
            expectOutcomeUnknown(await askUntilTheStoreAnswers(index + retries, 'block', key));
          }
          expect(desk.runsOf(key)).toHaveLength(1);
        }
      },
      60_000,
    );

    it('its replies lost for longer than the lease: 409 outcome unknown; a retry gets what was recorded all the same', async () => {
      const keys = apps.all.map((_, index) => `long-replies-lost-${index}`);
      const answers = await answersBeyondTheLease(keys, repliesLost, 'block-slowly');
      for (const [index, key] of keys.entries()) {
        expectOutcomeUnknown(answers[index]!);
        const retry = await askUntilTheStoreAnswers(index, 'block-slowly', key);
        expect(jobOf(retry)).toMatchObject({ attempt: 1, key });
        expect(isReplay(retry)).toBe(true);
        expectReplayOf(retry, await askUntilTheStoreAnswers(index + 1, 'block-slowly', key));
        expect(desk.runsOf(key)).toHaveLength(1);
      }
    }, 60_000);

    /** Runs that end while the store is away, which it is until all of them are answered. */
    async function answersBeyondTheLease(keys: string[], fault: Fault, route = 'block'): Promise<Answer[]> {
      const lets = keys.map((key) => desk.hold(key));
      const sent = keys.map((key, index) => apps.at(index).job(route, { key }));
      for (const key of keys) await desk.untilRuns(key, 1);
      // A hint or a renewal that met the fault first would cost the record the connections from before it: the
      // hints of the claims are sent by then, and the first renewal is a third of the lease away.
      await sleep(HINTS_ARE_SENT_MS);
      await fault.begin(server);
      for (const goOn of lets) goOn();
      const answers = await Promise.all(sent);
      await fault.end(server);
      return answers;
    }
  });

  /** Retries as a client does: 503 while the store comes back, 409 while a lost claim is undone, and nothing else. */
  async function askUntilItWorks(index: number, route: string, key: string): Promise<Answer> {
    for (const until = Date.now() + PATIENCE_MS; ;) {
      const answer = await apps.at(index).job(route, { key });
      if (answer.status === 201) return answer;
      if (answer.status === 503) expectStoreUnavailable(answer);
      else expectInProgress(answer);
      if (Date.now() > until) throw new Error(`${key}: after ${PATIENCE_MS} ms it is still ${codeOf(answer)}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async function askUntilTheStoreAnswers(index: number, route: string, key: string): Promise<Answer> {
    for (const until = Date.now() + PATIENCE_MS; ;) {
      const answer = await apps.at(index).job(route, { key });
      if (answer.status !== 503) return answer;
      expectStoreUnavailable(answer);
      if (Date.now() > until) throw new Error(`${key}: the store did not come back in ${PATIENCE_MS} ms`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
});

async function timed(asked: Promise<Answer>): Promise<{ answer: Answer; ms: number }> {
  const start = performance.now();
  const answer = await asked;
  return { answer, ms: performance.now() - start };
}
