import { isMoved } from './redis.errors.js';
import type { RedisLink, Send } from './redis.link.js';
import type { RedisStoreSettings } from './redis.options.js';
import { text } from './redis.replies.js';

/** A claim's reply, and what is missing where too few replicas have it. */
export interface ReplicatedClaim {
  readonly reply: unknown;
  readonly missing?: string;
}

/**
 * Claims, and has the server wait until enough replicas have what it wrote.
 *
 * WAIT is about the writes of its own connection: sent after a reconnect, it counts all replicas
 * at once and would promise what nobody has. So the connection is asked for its number before the
 * claim and after the wait, and a wait on another one does not count.
 */
export async function claimOnReplicas(
  link: RedisLink,
  key: string,
  settings: RedisStoreSettings,
  claim: (send: Send) => Promise<unknown>,
): Promise<ReplicatedClaim> {
  const attempt = (): Promise<ReplicatedClaim> => link.session(key, (send) => claimAndWait(send, settings, claim));
  try {
    return await attempt();
  } catch (error) {
    if (!isMoved(error)) throw error;
    // A session is bound to one node and follows no redirection. The client does, and learns.
    await link.send(key, ['EXISTS', key], settings.deadlineMs);
    return attempt();
  }
}

async function claimAndWait(
  send: Send,
  { minReplicas, replicaTimeoutMs }: RedisStoreSettings,
  claim: (send: Send) => Promise<unknown>,
): Promise<ReplicatedClaim> {
  const [before, reply] = await Promise.all([send(['CLIENT', 'ID']), claim(send)]);
  if (!Array.isArray(reply) || text(reply[0]) !== 'claimed') return { reply };
  const [acknowledged, after] = await Promise.all([
    send(['WAIT', String(minReplicas), String(replicaTimeoutMs)]),
    send(['CLIENT', 'ID']),
  ]);
  if (before !== after) return { reply, missing: 'the connection changed between a claim and its replicas.' };
  if (typeof acknowledged !== 'number' || acknowledged < minReplicas) {
    return {
      reply,
      missing: `${String(acknowledged)} of the ${minReplicas} replicas of minReplicas had the claim within ${replicaTimeoutMs} ms.`,
    };
  }
  return { reply };
}
