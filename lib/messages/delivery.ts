import type { ExecutionContext } from '@nestjs/common';
import { patternOf } from './message-call.js';
import { holdChannel, type AmqpChannel, type Word } from './held-channel.js';
import type { MessageRoute } from './message-route.js';
import { isManuallyAcknowledged } from './microservices.js';

/** `done`: acknowledged. `again`: back into the queue after a pause. `never`: rejected, to a dead-letter exchange if there is one. */
export type Fate = 'done' | 'again' | 'never';

interface AmqpMessage {
  readonly properties: { readonly replyTo?: unknown };
}

interface RmqContextLike {
  getMessage(): AmqpMessage & object;
  getChannelRef(): AmqpChannel & object;
  getArgs(): unknown[];
}

/** What one handler's run has come to. */
export interface Verdict {
  readonly fate: Fate;
  /** How long a message rests before it is delivered `again`. */
  readonly pauseMs: number;
  /** Whether an `ack` counts while it rests. Not where the library has refused: a filter that acknowledges every error would lose it. */
  readonly heedsAck: boolean;
}

/** The worst counts where several handlers get one message: it is done when all of them are. */
const ORDER: readonly Fate[] = ['again', 'never', 'done'];

const deliveries = new WeakMap<object, Delivery>();
const channels = new WeakMap<object, AmqpChannel & object>();

/** One message of a RabbitMQ queue that wants to be acknowledged (`noAck: false`): done once its record is written. */
export class Delivery {
  private word: Word | undefined;
  private readonly verdicts = new Map<unknown, Verdict>();
  private timer: NodeJS.Timeout | undefined;
  private isSettled = false;

  private constructor(
    private readonly channel: AmqpChannel,
    private readonly message: AmqpMessage & object,
    private readonly handlers: number,
  ) {}

  /** The delivery that this call is for, or undefined where nothing is to be acknowledged. */
  static of(context: ExecutionContext, route: MessageRoute): Delivery | undefined {
    const rpc: unknown = context.switchToRpc().getContext();
    if (!isRmqContext(rpc)) return undefined;
    const message = rpc.getMessage();
    const known = deliveries.get(message);
    if (known) return known;
    const channel = rpc.getChannelRef();
    if (!isManuallyAcknowledged(channel)) return undefined;
    const delivery = new Delivery(channel, message, route.handlersOf(patternOf(rpc) ?? ''));
    deliveries.set(message, delivery);
    const args = rpc.getArgs();
    args[args.indexOf(channel)] = heldChannelOf(channel);
    return delivery;
  }

  /** Whether somebody waits for a reply, and is told what went wrong. */
  get isAsked(): boolean {
    const { replyTo } = this.message.properties;
    return typeof replyTo === 'string' && replyTo !== '';
  }

  get wasAcked(): boolean {
    return this.word?.kind === 'ack';
  }

  /** Whether the handler has given the message back: it has not done what it was told. */
  get wasGivenBack(): boolean {
    return this.word?.kind === 'nack';
  }

  /** What one handler's run has come to; the message is settled when all of its handlers have said so. */
  settle(handler: unknown, verdict: Verdict): void {
    this.verdicts.set(handler, verdict);
    if (this.isSettled || this.verdicts.size < this.handlers) return;
    const worst = this.worst();
    clearTimeout(this.timer);
    if (this.word?.kind === 'nack') return this.send(this.word);
    switch (worst.fate) {
      case 'done':
        return this.send({ kind: 'ack' });
      case 'never':
        return this.send({ kind: 'nack', requeue: false });
      case 'again':
        // Not unsettled for longer than its process: a channel that closes gives back what it has.
        this.timer = setTimeout(() => this.send({ kind: 'nack', requeue: true }), worst.pauseMs).unref();
    }
  }

  /** What the handler says waits for the record; an exception filter, after it, has the last word. */
  hear(word: Word): void {
    if (word.kind === 'ack' && this.timer !== undefined && !this.worst().heedsAck) return;
    this.word = word;
    if (this.timer === undefined) return;
    clearTimeout(this.timer);
    this.send(word);
  }

  private worst(): Verdict {
    const verdicts = [...this.verdicts.values()];
    verdicts.sort((a, b) => ORDER.indexOf(a.fate) - ORDER.indexOf(b.fate));
    return verdicts[0]!;
  }

  private send(word: Word): void {
    if (this.isSettled) return;
    this.isSettled = true;
    try {
      if (word.kind === 'ack') this.channel.ack(this.message);
      else this.channel.nack(this.message, false, word.requeue);
    } catch {
      // The channel is closed: the broker has taken the message back and delivers it again.
    }
  }
}

function heldChannelOf(channel: AmqpChannel & object): AmqpChannel & object {
  const known = channels.get(channel);
  if (known) return known;
  const held = holdChannel(channel, (message, word) => {
    const delivery = deliveries.get(message);
    delivery?.hear(word);
    return delivery !== undefined;
  });
  channels.set(channel, held);
  return held;
}

function isRmqContext(context: unknown): context is RmqContextLike {
  const { getMessage, getChannelRef, getArgs } = Object(context) as Partial<RmqContextLike>;
  return [getMessage, getChannelRef, getArgs].every((member) => typeof member === 'function');
}
