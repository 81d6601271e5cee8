import { edit, type Mutant } from './mutant.js';

const ENGINE = 'lib/core/engine.ts';
const SCRIPTS = 'lib/stores/redis/redis.scripts.ts';

/** The store tries itself out at boot, and would not start with a bug as plain as that. */
const NO_SELF_TEST = edit('lib/stores/redis/redis.start.ts', 'await tryOut(store, link, settings, keyOf);', '');

/** Bugs in who may run. */
export const claimMutants: readonly Mutant[] = [
  {
    name: 'no claim: every request runs',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I1'] },
    edits: [edit(SCRIPTS, 'if not r then return win', 'do return win'), NO_SELF_TEST],
  },
  {
    name: 'get, then set: whatever has come in between is overwritten',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I1'] },
    edits: [
      edit(
        'lib/stores/redis/redis.store.ts',
        '    if (this.settings.minReplicas === 0) {',
        `    const key = this.keyOf(request.recordKey);
    if (!(await this.find(request.recordKey))) await this.link.send(key, ['DEL', key], 1_000);
    if (this.settings.minReplicas === 0) {`,
      ),
    ],
  },
  {
    name: 'fails open: where the store is away, the handler runs',
    ...{ store: 'redis', mode: 'block', faults: ['store_stop', 'proxy_refuse'], caughtBy: ['I1', 'I2'] },
    edits: [
      edit(
        ENGINE,
        '      undoClaim(this.store, request);',
        `      const claim = { ...request, recordId: randomUUID(), attempt: 1, fencingToken: Date.now(), tookOver: false };
      return { kind: 'claimed', claim };`,
      ),
    ],
  },
  {
    name: 'an abandoned run is taken over where nothing may run twice',
    ...{ store: 'redis', mode: 'block', faults: ['app_kill', 'app_stop'], crash: 0.01, caughtBy: ['I1'] },
    edits: [edit('lib/core/policy.ts', `takeOver: afterCrash === 'rerun'`, 'takeOver: true')],
  },
  {
    name: 'a claim that the driver sends twice is refused because of itself',
    ...{ store: 'redis', mode: 'rerun', faults: ['proxy_drop_replies'], cut: 0.1, caughtBy: ['I12'] },
    edits: [
      edit(
        SCRIPTS,
        `if held(r, token) then return { 'claimed', r.id, int(r.attempt), r.fence, r.took } end`,
        '-- whoever it is',
      ),
    ],
  },
  {
    name: 'the fencing token is the number of the attempt',
    ...{ store: 'redis', mode: 'rerun', faults: [], caughtBy: ['I14'] },
    edits: [
      edit(
        SCRIPTS,
        `local fence = int(math.max((tonumber(rest.top or '0')) + 1, now_us))`,
        'local fence = int(attempt)',
      ),
    ],
  },
  {
    name: 'the record is read from a copy that is half a second behind',
    ...{ store: 'redis', mode: 'block', faults: [], caughtBy: ['I8'] },
    edits: [
      edit(
        ENGINE,
        'const result = await this.store.claim(request);',
        `const copy = (this.copies ??= new Map()).get(request.recordKey);
      const result = copy ?? (await this.store.claim(request));
      if (!copy && result.kind !== 'claimed') {
        this.copies.set(request.recordKey, result);
        setTimeout(() => this.copies.delete(request.recordKey), 500);
      }`,
      ),
    ],
  },
];
