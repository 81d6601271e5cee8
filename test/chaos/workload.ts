import { oneOf, whole, type Random } from '../simulation/random.js';

export const OPERATIONS = { charges: 'POST /charges', joined: 'POST /joined', brief: 'POST /brief' } as const;
export type Route = keyof typeof OPERATIONS;

/** What a client asks for. */
export interface ChargeBody {
  readonly id: number;
  /** `huge`: too large to be kept; `poison`: JSON cannot hold it; `broken`: the first attempt fails. */
  readonly kind: 'plain' | 'raw' | 'declined' | 'broken' | 'huge' | 'poison';
  /** How long the handler takes before its effect. */
  readonly ms: number;
}

/** One thing that a client wants done, until it has an answer. */
export interface Operation {
  readonly route: Route;
  readonly tenant: string;
  readonly key: string;
  readonly body: ChargeBody;
  /** At how many servers it asks at the same time. */
  readonly duplicates: number;
}

/** What each key is used for, by its number: the same in every use. */
function keyOf(marker: string, n: number): Pick<Operation, 'key' | 'route' | 'tenant'> & { random: Random } {
  // Not the run's own source: which keys are used when must not change what they are.
  let state = Math.imul(n + 1, 0x9e3779b1);
  const random: Random = () => {
    state = Math.imul(state ^ (state >>> 15), 0x85ebca6b) + 0x1b873593;
    return ((state ^ (state >>> 13)) >>> 0) / 4_294_967_296;
  };
  const route = oneOf(random, ['charges', 'charges', 'charges', 'charges', 'joined', 'brief'] as const);
  return { key: `${marker}::key-${n}`, route, tenant: `${marker}::tenant-${whole(random, 20)}`, random };
}

function bodyOf(random: Random, id: number, leaseMs: number): ChargeBody {
  const draw = random();
  const kind =
    draw < 0.02
      ? 'huge'
      : draw < 0.04
        ? 'poison'
        : draw < 0.08
          ? 'declined'
          : draw < 0.12
            ? 'broken'
            : draw < 0.4
              ? 'raw'
              : 'plain';
  const slow = random();
  const ms = slow < 0.7 ? whole(random, 30) : slow < 0.97 ? whole(random, 300) : Math.round(leaseMs * (1 + random()));
  return { id, kind, ms };
}

/** The operations of a run, without end, the same for the same source of numbers. */
export class Workload {
  private newest = 0;

  constructor(
    private readonly random: Random,
    /** A text that is in every key and every tenant, to be looked for where neither must be. */
    private readonly marker: string,
    private readonly leaseMs: number,
  ) {}

  next(): Operation {
    const { random } = this;
    const isNew = this.newest === 0 || random() < 0.5;
    // Of the older ones, the latest are used most: the n-th latest with a probability of about 1/n.
    const back = isNew ? 0 : Math.min(this.newest - 1, Math.floor(Math.exp(random() * Math.log(this.newest + 1))) - 1);
    if (isNew) this.newest += 1;
    const operation = this.operation(this.newest - back);
    const draw = random();
    const other =
      draw < 0.05
        ? this.withOtherBody(operation)
        : draw < 0.08
          ? this.withOtherTenant(operation)
          : draw < 0.1
            ? this.withShiftedSeparator(operation)
            : operation;
    return { ...other, duplicates: random() < 0.5 ? 1 : 2 + whole(random, 4) };
  }

  /** The operation that a key stands for. */
  operation(n: number): Operation {
    const { random, ...names } = keyOf(this.marker, n);
    return { ...names, body: bodyOf(random, n, this.leaseMs), duplicates: 1 };
  }

  private withOtherBody(operation: Operation): Operation {
    return { ...operation, body: { ...operation.body, id: -operation.body.id } };
  }

  private withOtherTenant(operation: Operation): Operation {
    return { ...operation, tenant: `${operation.tenant}-other` };
  }

  /** Tenant and key of somebody else that look the same where they are joined by `::`. */
  private withShiftedSeparator(operation: Operation): Operation {
    const [first, ...rest] = operation.key.split('::');
    return { ...operation, tenant: `${operation.tenant}::${first}`, key: rest.join('::') };
  }
}
