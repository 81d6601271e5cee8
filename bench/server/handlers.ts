import { setImmediate } from 'node:timers/promises';

/** What every variant is asked, and what it answers with: about 0.3 kB of JSON both ways. */
export interface Order {
  readonly customer: string;
  readonly currency: string;
  readonly items: readonly { readonly sku: string; readonly quantity: number; readonly cents: number }[];
  readonly note: string;
}

export interface Receipt extends Order {
  readonly id: string;
  readonly status: 'accepted';
}

let accepted = 0;

export function receiptOf(order: Order): Receipt {
  accepted += 1;
  return { id: `order-${accepted}`, status: 'accepted', ...order };
}

/** As a model answers: token by token, each in a turn of the event loop of its own. */
export async function* tokens(count: number): AsyncGenerator<{ data: { index: number; text: string } }> {
  for (let index = 0; index < count; index += 1) {
    await setImmediate();
    yield { data: { index, text: ' a token of the answer' } };
  }
}
