import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { Stripe } from 'stripe';
import type { ProviderApp } from './provider-app.js';

export interface ClientCall {
  /** Absent: the client is given none. */
  readonly key?: string;
  /** What the request is about. */
  readonly input?: number;
  readonly maxRetries?: number;
}

export interface ClientResult {
  readonly id: string;
  readonly replayed: boolean;
}

type ErrorClass = abstract new (...args: never[]) => Error;

/** A provider's own client, used as its documentation says, with the key sent by the means that it has. */
export interface Client {
  readonly name: string;
  call(app: ProviderApp, call: ClientCall): Promise<ClientResult>;
  /** What it throws for a status. */
  readonly errors: Readonly<Record<400 | 409 | 422, ErrorClass>>;
  /** Where its errors have the HTTP status and the code. */
  statusOf(error: unknown): unknown;
  /** Whether it waits for as long as `Retry-After` says. */
  readonly heedsRetryAfter: boolean;
  /** Whether it makes a key up where it is given none. */
  readonly makesKeys: boolean;
  /** Whether `x-should-retry: false` keeps it from asking again. */
  readonly heedsShouldRetry: boolean;
}

const openai: Client = {
  name: 'openai',
  async call({ url }, { key, input = 1, maxRetries = 2 }) {
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'sk-test', maxRetries });
    const { data, response } = await client.chat.completions
      .create(
        { model: 'm', messages: [{ role: 'user', content: `question ${input}` }] },
        { headers: key === undefined ? {} : { 'Idempotency-Key': key } },
      )
      .withResponse();
    return { id: data.id, replayed: response.headers.get('idempotent-replayed') === 'true' };
  },
  errors: { 400: OpenAI.BadRequestError, 409: OpenAI.ConflictError, 422: OpenAI.UnprocessableEntityError },
  statusOf: (error) => (error as { status?: unknown }).status,
  heedsRetryAfter: true,
  makesKeys: false,
  heedsShouldRetry: true,
};

const anthropic: Client = {
  name: '@anthropic-ai/sdk',
  async call({ url }, { key, input = 1, maxRetries = 2 }) {
    const client = new Anthropic({ baseURL: url, apiKey: 'sk-test', maxRetries });
    const { data, response } = await client.messages
      .create(
        { model: 'm', max_tokens: 10, messages: [{ role: 'user', content: `question ${input}` }] },
        { headers: key === undefined ? {} : { 'Idempotency-Key': key } },
      )
      .withResponse();
    return { id: data.id, replayed: response.headers.get('idempotent-replayed') === 'true' };
  },
  errors: { 400: Anthropic.BadRequestError, 409: Anthropic.ConflictError, 422: Anthropic.UnprocessableEntityError },
  statusOf: (error) => (error as { status?: unknown }).status,
  heedsRetryAfter: true,
  makesKeys: false,
  heedsShouldRetry: true,
};

const stripe: Client = {
  name: 'stripe',
  async call({ port }, { key, input = 1, maxRetries = 2 }) {
    const client = new Stripe('sk_test', {
      ...{ host: '127.0.0.1', port, protocol: 'http', telemetry: false },
      maxNetworkRetries: maxRetries,
    });
    const intent = await client.paymentIntents.create(
      { amount: input, currency: 'usd' },
      key === undefined ? {} : { idempotencyKey: key },
    );
    return { id: intent.id, replayed: intent.lastResponse.headers['idempotent-replayed'] === 'true' };
  },
  errors: {
    400: Stripe.errors.StripeIdempotencyError,
    409: Stripe.errors.StripeError,
    422: Stripe.errors.StripeError,
  },
  statusOf: (error) => (error as { statusCode?: unknown }).statusCode,
  heedsRetryAfter: false,
  makesKeys: true,
  heedsShouldRetry: false,
};

export const CLIENTS: readonly Client[] = [openai, anthropic, stripe];
