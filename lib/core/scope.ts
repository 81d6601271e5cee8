/**
 * Who owns the key, as a `scope` function gave it. One without an owner is refused rather than put into
 * everybody's. `remedy` says what to do about it.
 */
export function checkScope(scope: unknown, remedy: string): string {
  if (typeof scope === 'string' && scope.length > 0) return scope;
  if (typeof scope === 'number' || typeof scope === 'bigint') return String(scope);
  throw new TypeError(
    `The idempotency option 'scope' gave ${scope === '' ? 'an empty text' : String(scope)}. It must name who owns the key (a tenant, a user, an API client)${remedy}`,
  );
}
