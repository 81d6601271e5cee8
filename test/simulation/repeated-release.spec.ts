import { randomUUID } from 'node:crypto';
import { Engine } from '../../lib/core/engine.js';
import { recordKeyOf } from '../../lib/core/record-key.js';
import type { ClaimRef, RecordView } from '../../lib/core/record.js';
import type { WriteResult } from '../../lib/core/store.js';
import { resolvePolicy } from '../../lib/nest/resolve-options.js';
import { MemoryStore } from '../../lib/stores/memory/memory-store.js';

const name = { scope: 'acme', operation: 'POST /charges', key: 'k1' };
const recordKey = recordKeyOf(name);

/** Its driver sends a release twice; between the two another claim comes, which is given back later. */
class SendsAgain extends MemoryStore {
  override async release(claim: ClaimRef, options: { readonly began: boolean }): Promise<WriteResult> {
    const first = await super.release(claim, options);
    if (!options.began) return first;
    const claimToken = randomUUID();
    const { operation } = name;
    const lives = { leaseMs: 1_000, retentionMs: 1_000, keepAbandoned: true, takeOver: false };
    await this.claim({ recordKey, operation, fingerprint: 'p', claimToken, ...lives });
    const second = await super.release(claim, options);
    await super.release({ recordKey, claimToken }, { began: false });
    return second;
  }
}

/** Found by the simulation (seeds 592070187 and 1913426131): the client was told of an unknown outcome, in block mode with "do not retry". */
describe('a release that was written, sent again, and then refused', () => {
  const execute = (store: MemoryStore): Promise<unknown> =>
    new Engine(store, false).execute(
      { ...name, fingerprint: 'p', policy: resolvePolicy({ afterCrash: 'block' }, 'test') },
      async () => ({ kind: 'release', began: true, error: new Error('the handler failed') }),
    );

  it('leaves the run its own error: nothing is unknown', async () => {
    const store = new SendsAgain();
    await expect(execute(store)).resolves.toMatchObject({ kind: 'ran', outcome: { kind: 'release' } });
    expect(await store.find(recordKey)).toMatchObject({ state: 'released', attempt: 1 });
  });

  it('leaves it its own error also where the store cannot be asked', async () => {
    const store = new (class extends SendsAgain {
      override find(): Promise<RecordView | undefined> {
        return Promise.reject(new Error('away'));
      }
    })();
    await expect(execute(store)).resolves.toMatchObject({ kind: 'ran', outcome: { kind: 'release' } });
  });
});
