import { hasNats, hasRabbitMq, startNats, startRabbitMq, type Broker } from './broker-process.ts';

export { startNats, startRabbitMq, type Broker } from './broker-process.ts';

/** A `describe` that needs a RabbitMQ, which it is given. Without one nothing in it runs, and the output says so. */
export function describeRabbitMq(name: string, body: (url: () => string) => void): void {
  describeBroker(name, body, hasRabbitMq(), startRabbitMq, 'a rabbitmq-server on the PATH or RABBITMQ_URL');
}

/** As `describeRabbitMq`, for NATS. */
export function describeNats(name: string, body: (url: () => string) => void): void {
  describeBroker(name, body, hasNats(), startNats, 'a nats-server on the PATH or NATS_URL');
}

function describeBroker(
  name: string,
  body: (url: () => string) => void,
  isThere: boolean,
  start: () => Promise<Broker>,
  needs: string,
): void {
  if (!isThere) {
    console.warn(`\n${'*'.repeat(80)}\n  THESE TESTS DO NOT RUN: ${name}\n  They need ${needs}.\n${'*'.repeat(80)}\n`);
    // A file without a single test is an error to Jest, and a skipped test shows in the totals.
    describe.skip(name, () => it(`needs ${needs}`, () => undefined));
    return;
  }
  describe(name, () => {
    let broker: Broker | undefined;
    beforeAll(async () => void (broker = await start()), 90_000);
    body(() => broker!.url);
    // After what the body has registered: its clients are gone by then.
    afterAll(async () => broker?.stop(), 30_000);
  });
}
