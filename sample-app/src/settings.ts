import type { Duration } from 'nestjs-idempotency';

/** Everything that the environment decides, read once. */
export interface Settings {
  /** 0: any free one. */
  readonly port: number;
  /** Without one, a Postgres of its own is started and thrown away with the process. */
  readonly databaseUrl: string | undefined;
  /** With one, idempotency records live in Redis; everything else stays in Postgres. */
  readonly redisUrl: string | undefined;
  readonly idempotency: IdempotencySettings;
  readonly model: ModelSettings;
  readonly payments: PaymentSettings;
}

export interface IdempotencySettings {
  readonly lease: Duration;
  readonly retention: Duration;
  readonly afterCrash: 'block' | 'rerun';
}

export interface ModelSettings {
  /** An OpenAI-compatible endpoint, up to and including `/v1`. Without one, the built-in model answers. */
  readonly baseUrl: string | undefined;
  readonly apiKey: string | undefined;
  readonly name: string;
  readonly embeddingName: string;
  /** How long the built-in model thinks. */
  readonly delayMs: number;
  /** How long a pipeline of many calls rests before each but its first: a provider's limit on the rate, say. */
  readonly pauseMs: number;
  /** How long it takes from one token of a streamed answer to the next. */
  readonly tokenDelayMs: number;
}

export interface PaymentSettings {
  /** How long the built-in payment provider takes to answer, after it has done what it was asked. */
  readonly delayMs: number;
  /** Whether it can be asked what became of a charge. Not every provider can. */
  readonly lookups: boolean;
}

export function readSettings(env: NodeJS.ProcessEnv = process.env): Settings {
  const baseUrl = env.MODEL_BASE_URL || undefined;
  return {
    port: wholeNumber(env, 'PORT', 3000),
    databaseUrl: env.DATABASE_URL || undefined,
    redisUrl: env.REDIS_URL || undefined,
    idempotency: {
      // Malformed durations are reported by the library at boot, with the name of the option.
      lease: (env.LEASE || '30s') as Duration,
      retention: (env.RETENTION || '24h') as Duration,
      afterCrash: oneOf(env, 'AFTER_CRASH', ['block', 'rerun']),
    },
    model: {
      baseUrl: baseUrl?.replace(/\/+$/, ''),
      apiKey: env.MODEL_API_KEY || undefined,
      name: env.MODEL_NAME || (baseUrl ? 'gpt-4o-mini' : 'parrot-1'),
      embeddingName: env.MODEL_EMBEDDING_NAME || (baseUrl ? 'text-embedding-3-small' : 'parrot-embedding-1'),
      delayMs: wholeNumber(env, 'MODEL_DELAY_MS', 800),
      pauseMs: wholeNumber(env, 'MODEL_PAUSE_MS', 0),
      tokenDelayMs: wholeNumber(env, 'TOKEN_DELAY_MS', 50),
    },
    payments: {
      delayMs: wholeNumber(env, 'PAYMENT_DELAY_MS', 100),
      lookups: oneOf(env, 'PAYMENT_LOOKUPS', ['on', 'off']) === 'on',
    },
  };
}

function wholeNumber(env: NodeJS.ProcessEnv, name: string, preset: number): number {
  const text = env[name];
  if (!text) return preset;
  if (!/^\d{1,9}$/.test(text)) throw new Error(`${name} must be a whole number, not '${text}'.`);
  return Number(text);
}

function oneOf<T extends string>(env: NodeJS.ProcessEnv, name: string, choices: readonly [T, ...T[]]): T {
  const text = env[name];
  if (!text) return choices[0];
  const choice = choices.find((one) => one === text);
  if (choice === undefined) throw new Error(`${name} must be one of ${choices.join(', ')}, not '${text}'.`);
  return choice;
}
