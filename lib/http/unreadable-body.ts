/** A body that cannot be compared with the next one: the handler would run, or not, on a guess. */
export class UnreadableBodyError extends Error {
  constructor(what: string) {
    super(
      `${what} Idempotency needs the body before the handler starts: parse it first (an upload interceptor, a body parser), or give the route a fingerprint function, or fingerprint: false.`,
    );
    this.name = 'UnreadableBodyError';
  }
}
