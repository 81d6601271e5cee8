/** How much is measured. The quick one shows that everything runs; its figures are rough. */
export interface Scale {
  readonly name: 'full' | 'quick';
  /** Times that all servers are started anew: two processes of the same code differ by some percent. */
  readonly sessions: number;
  readonly rounds: number;
  /** Of a slice: one variant in one round. */
  readonly sliceSeconds: number;
  /** Requests that each variant gets before it is measured; a server's first thousands are those of its compiler. */
  readonly warmUpRequests: number;
  /** For the warm-up of one variant, at most. */
  readonly warmUpSeconds: number;
  readonly connections: number;
  readonly latencySeconds: number;
  /** Requests a second at which latency is measured. */
  readonly latencyRate: number;
  readonly streamRounds: number;
  readonly streams: number;
  readonly eventsPerStream: number;
  readonly smallTable: number;
  readonly largeTable: number;
  readonly claimRounds: number;
  readonly claimsPerRound: number;
  readonly fewRequests: number;
  readonly manyRequests: number;
}

export const FULL: Scale = {
  name: 'full',
  sessions: 3,
  rounds: 5,
  sliceSeconds: 0.9,
  warmUpRequests: 10_000,
  warmUpSeconds: 4,
  connections: 32,
  latencySeconds: 4,
  latencyRate: 500,
  streamRounds: 7,
  streams: 100,
  eventsPerStream: 300,
  smallTable: 10_000,
  largeTable: 10_000_000,
  claimRounds: 20,
  claimsPerRound: 100,
  fewRequests: 10_000,
  manyRequests: 1_000_000,
};

export const QUICK: Scale = {
  ...FULL,
  name: 'quick',
  sessions: 1,
  rounds: 2,
  sliceSeconds: 0.4,
  warmUpRequests: 1_500,
  warmUpSeconds: 1.5,
  latencySeconds: 0.8,
  latencyRate: 200,
  streamRounds: 2,
  eventsPerStream: 60,
  largeTable: 100_000,
  claimRounds: 6,
  claimsPerRound: 40,
  fewRequests: 3_000,
  manyRequests: 20_000,
};
