export interface Charge {
  readonly id: string;
  readonly amountCents: number;
}

export interface ChargeRequest {
  readonly customer: string;
  readonly amountCents: number;
  /** The provider's own idempotency key: it charges once for each. */
  readonly key: string;
}

/** A provider of payments; also the token by which it is injected. */
export abstract class PaymentProvider {
  abstract charge(request: ChargeRequest): Promise<Charge>;
  /** What became of a charge; throws where the provider does not say. */
  abstract findCharge(key: string): Promise<Charge | undefined>;
  abstract chargesOf(customer: string): Promise<readonly Charge[]>;
}
