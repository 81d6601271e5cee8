/** What a handler says about its delivery by itself. */
export type Word = { readonly kind: 'ack' } | { readonly kind: 'nack'; readonly requeue: boolean };

/** The part of a RabbitMQ channel by which deliveries are settled. */
export interface AmqpChannel {
  ack(message: object, allUpTo?: boolean): void;
  nack(message: object, allUpTo?: boolean, requeue?: boolean): void;
}

/** Whoever holds a delivery back; false where nobody does. */
export type Listener = (message: object, word: Word) => boolean;

/**
 * The channel that a protected handler gets: what it says about its own delivery waits for the record.
 * An `ack` before would lose the message with the process that has run but not recorded it.
 */
export function holdChannel<T extends AmqpChannel & object>(channel: T, hear: Listener): T {
  const say = (message: object, word: Word, send: () => void): void => {
    if (!hear(message, word)) send();
  };
  const held: Record<PropertyKey, unknown> = {
    ack(message: object, allUpTo?: boolean) {
      if (allUpTo) throw refusal('ack(message, true)');
      say(message, { kind: 'ack' }, () => channel.ack(message));
    },
    nack(message: object, allUpTo?: boolean, requeue = true) {
      if (allUpTo) throw refusal('nack(message, true)');
      say(message, { kind: 'nack', requeue }, () => channel.nack(message, false, requeue));
    },
    reject(message: object, requeue = true) {
      say(message, { kind: 'nack', requeue }, () => channel.nack(message, false, requeue));
    },
    ackAll() {
      throw refusal('ackAll()');
    },
    nackAll() {
      throw refusal('nackAll()');
    },
  };
  return new Proxy(channel, {
    get(target, name) {
      const own = held[name];
      if (own !== undefined) return own;
      const value: unknown = Reflect.get(target, name, target);
      // Bound to the real one: its methods use it as it is, private fields and all.
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

function refusal(call: string): TypeError {
  return new TypeError(
    `channel.${call} would settle messages whose runs are not recorded. In a handler with @Idempotent() settle its own message only, or none.`,
  );
}
