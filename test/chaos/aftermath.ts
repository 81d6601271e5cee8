import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { recordKeyOf } from '../../lib/core/record-key.js';
import { PURCHASES_AND_COMPLETIONS, readPurchases } from './app/purchases.js';
import { machineNow } from './app/settings.js';
import type { Event, Mode } from './checker/history.js';
import type { Cluster } from './cluster.js';
import { digestOf } from './digest.js';
import { OPERATIONS, type Operation } from './workload.js';

/** What lies in the store at the end, for every key that was used, and what is still there that should be gone. */
export async function dump(
  cluster: Cluster,
  used: ReadonlyMap<string, Operation>,
  mode: Mode,
  waitMs: number,
  signal: AbortSignal,
): Promise<Event[]> {
  const events: Event[] = [{ type: 'mark', what: 'dump', at: machineNow() }];
  const subjects = new Map<string, string>();
  await cluster.store.withStore(async (store) => {
    for (const [subject, { route, tenant, key }] of used) {
      const recordKey = recordKeyOf({ scope: tenant, operation: OPERATIONS[route], key });
      subjects.set(recordKey, subject);
      const record = await store.find(recordKey);
      if (!record) continue;
      const { answer, state, fencingToken: fence } = record;
      const isKept = answer?.kept === true;
      const header = (name: string): string | undefined =>
        isKept ? answer.headers.find(([own]) => own === name)?.[1] : undefined;
      events.push({
        ...{ type: 'record', subject, state, fence },
        ...(answer && { kept: isKept }),
        ...(isKept && { digest: digestOf(answer.status, header, answer.body) }),
      });
    }
  });
  if (mode === 'transaction') {
    events.push(...readPurchases(await cluster.store.query(PURCHASES_AND_COMPLETIONS), subjects));
  }
  // The last requests have made new records; those with a brief retention must be gone by now.
  await sleep(waitMs, undefined, { signal });
  for (const { recordKey, forMs } of await cluster.store.overdue()) {
    const subject = subjects.get(recordKey) ?? recordKey;
    events.push({ type: 'record', subject, state: 'over', remainingMs: -forMs });
  }
  return events;
}

/** Planted texts that have turned up in files of the store or in what the applications printed. */
export async function leaks(cluster: Cluster, needles: readonly string[]): Promise<Event[]> {
  const events: Event[] = [];
  const look = (where: string, text: Buffer | string): void => {
    for (const needle of needles) {
      if (!text.includes(needle)) continue;
      events.push({ type: 'trouble', kind: 'leak', server: where, what: `'${needle}' was found` });
    }
  };
  for (const { name } of cluster.apps) look(`output of ${name}`, cluster.outputOf(name));
  for (const directory of cluster.store.dataDirs) {
    for (const file of await readdir(directory, { recursive: true, withFileTypes: true })) {
      if (file.isFile()) look(`store file ${file.name}`, await readFile(join(file.parentPath, file.name)));
    }
  }
  return events;
}
