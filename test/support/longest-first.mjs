import Sequencer from '@jest/test-sequencer';
import { fileURLToPath } from 'node:url';

/**
 * What takes longest, in this order: seconds on a machine of two cores. Begun last, such a file would keep
 * one worker busy when all others have nothing left to do. The rest goes by what Jest knows or guesses.
 */
const SECONDS = {
  'processes/store-away': 68,
  'sample-app/demo': 60,
  'package/package': 55,
  'processes/races': 53,
  'processes/recover': 50,
  'processes/transactions': 50,
  'processes/joining': 47,
  'processes/retention': 45,
  'simulation/simulation': 43,
  'processes/tenants': 35,
  'processes/clients-that-leave': 35,
  'messages/rabbitmq': 33,
  'messages/kills': 30,
  'typeorm/table': 30,
  'processes/crashes': 28,
  'chaos/run': 27,
  'testing/store-contract': 25,
  'contract/redis': 20,
  'contract/typeorm': 20,
  'typeorm/failures': 25,
  'transaction-helpers/transaction-helpers': 22,
  'typeorm/streams': 22,
  'typeorm/transactions': 20,
};

const seconds = new Map(
  Object.entries(SECONDS).map(([name, time]) => [fileURLToPath(new URL(`../${name}.spec.ts`, import.meta.url)), time]),
);

export default class LongestFirst extends Sequencer {
  sort(tests) {
    return super.sort(tests).toSorted((one, other) => (seconds.get(other.path) ?? 0) - (seconds.get(one.path) ?? 0));
  }
}
