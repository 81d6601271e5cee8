import { check, INVARIANTS } from './check.js';
import { formatHistory, parseHistory } from './history.js';
import { answered, OPERATION, Story, SUBJECT } from './story.js';

const rerun = { mode: 'rerun' } as const;
const transaction = { mode: 'transaction' } as const;
const brief = { retentions: { [OPERATION]: 500 } };

/** A run whose process dies after its effect. */
const killed = (settings = {}): Story =>
  new Story(settings)
    .wins('r1', [0, 10], 1)
    .effect(1, 20)
    .fault('kill', [30, 30], 'one')
    .request('r1', [0, 31], 'lost');

/** A run whose process dies in its transaction, and the one that takes over. */
const undone = (): Story =>
  new Story(transaction)
    .wins('r1', [0, 10], 1)
    .add({ type: 'wrote', subject: SUBJECT, server: 'one', fence: 1, at: 20 })
    .fault('kill', [30, 30], 'one')
    .request('r1', [0, 31], 'lost')
    .run('r2', 2, 1_200, { attempt: 2, tookOver: true, server: 'two' });

describe('the judge finds nothing wrong with', () => {
  const good: Record<string, Story> = {
    'a run, a duplicate beside it, and a replay': new Story()
      .run('r1', 1, 0)
      .call('r2', 'claim', [20, 30], { got: 'in_progress' })
      .request('r2', [20, 30], 'in_progress')
      .request('r3', [100, 110], answered(1, { replayed: true }))
      .request('r4', [200, 210], 'reused', { payload: 'q' })
      .stored(300, { digest: 'digest of 1' }),
    'an outcome that nobody knows, after a kill': killed()
      .request('r2', [1_200, 1_210], 'unknown', { final: true })
      .stored(1_300, { state: 'abandoned' }),
    'a run that is taken over after a kill, where that is promised': killed(rerun)
      .run('r2', 2, 1_200, { attempt: 2, tookOver: true, server: 'two' })
      .stored(1_300, { digest: 'digest of 2' }),
    'a run after the retention of the first': new Story(brief).run('r1', 1, 0).run('r2', 2, 600),
    'a failure that is released, and the next run': new Story()
      .wins('r1', [0, 10], 1)
      .call('r1', 'release', [20, 30], { got: 'written' })
      .request('r1', [0, 40], 'failed')
      .run('r2', 2, 100, { attempt: 2 }),
    'a store that is away': new Story()
      .fault('store_kill', [0, 500])
      .call('r1', 'claim', [10, 110], { got: 'error' })
      .request('r1', [10, 120], 'unavailable'),
    'an answer that was not kept': new Story()
      .wins('r1', [0, 10], 1)
      .effect(1, 20)
      .call('r1', 'complete', [30, 40], { got: 'written' })
      .request('r1', [0, 60], 'unsent')
      .request('r2', [100, 110], 'not_kept', { final: true })
      .stored(200, { kept: false }),
    'a record whose retention ends while the store is looked at': new Story(brief)
      .run('r1', 1, 0)
      .stored(520, { digest: 'digest of 1' })
      .stored(545, { state: 'over', remainingMs: -5 }),
    'a reply that was lost, and an effect that came too late to be recorded': new Story(rerun)
      .wins('r1', [0, 10], 1)
      .fault('stop', [15, 2_000], 'one')
      .run('r2', 2, 1_200, { attempt: 2, tookOver: true, server: 'two' })
      .effect(1, 2_010)
      .call('r1', 'complete', [2_020, 2_030], { got: 'lost' })
      .request('r1', [0, 2_050], answered(2, { replayed: true })),
    'a transaction that is undone by a kill, and the row of the next attempt': undone()
      .committed(2)
      .stored(1_300, { digest: 'digest of 2', fence: 2 }),
    'a transaction that is undone although its client is told that the store was away': new Story(transaction)
      .fault('backend_kill', [25, 30])
      .wins('r1', [0, 10], 1)
      .call('r1', 'complete', [20, 40], { got: 'error', writtenAt: 24 })
      .call('r1', 'release', [40, 45], { got: 'written' })
      .request('r1', [0, 50], 'unavailable')
      .run('r2', 2, 60, { attempt: 2, payload: 'q' })
      .committed(2),
    'an unknown outcome where a commit was not answered until the lease was over': new Story(transaction)
      .fault('store_kill', [25, 1_500])
      .wins('r1', [0, 10], 1)
      .call('r1', 'complete', [20, 40], { got: 'error', writtenAt: 24 })
      .call('r1', 'release', [40, 1_400], { got: 'error' })
      .request('r1', [0, 1_410], 'unknown')
      .run('r2', 2, 1_600, { attempt: 2, tookOver: true })
      .committed(2),
    'rows of two retentions, one each': new Story({ ...transaction, ...brief })
      .run('r1', 1, 0)
      .run('r2', 2, 600)
      .committed(1)
      .committed(2),
  };
  it.each(Object.keys(good))('%s', (name) => expect(check(good[name]!.history)).toEqual([]));
});

describe('the judge finds', () => {
  const bad: Record<string, [rule: string, story: Story]> = {
    'two effects': ['I1', killed().wins('r2', [1_200, 1_210], 2, { tookOver: true, attempt: 2 }).effect(2, 1_220)],
    'two effects after a fault that ends no lease': [
      'I2',
      new Story(rerun)
        .wins('r1', [0, 10], 1)
        .effect(1, 20)
        .fault('clock', [0, 100], 'one')
        .wins('r2', [200, 210], 2, { tookOver: true, attempt: 2, server: 'two' })
        .effect(2, 220),
    ],
    'a second effect without a takeover': ['I2', killed(rerun).wins('r2', [1_200, 1_210], 2).effect(2, 1_220)],
    'an effect without a claim': ['I2', new Story().effect(7, 20)],
    'two effects under one claim': ['I2', new Story().wins('r1', [0, 10], 1).effect(1, 20).effect(1, 25)],
    'an answer that differs from its replay': [
      'I3',
      new Story().run('r1', 1, 0).request('r2', [100, 110], answered(1, { replayed: true, digest: 'another' })),
    ],
    'two runs with an answer each': [
      'I3',
      killed(rerun).run('r2', 2, 1_200, { tookOver: true }).request('r3', [40, 50], answered(1)),
    ],
    'the answer to another key': [
      'I4',
      new Story()
        .run('r1', 1, 0)
        .request('r2', [100, 110], { ...answered(1, { replayed: true }), mark: 'of k2' } as never),
    ],
    'an answer before its effect': [
      'I5',
      new Story().wins('r1', [0, 10], 1).request('r1', [0, 20], answered(1)).effect(1, 30),
    ],
    'an answer without an effect': ['I5', new Story().wins('r1', [0, 10], 1).request('r1', [0, 20], answered(1))],
    'a run after there was an answer': ['I6', new Story().run('r1', 1, 0).wins('r2', [100, 110], 2).effect(2, 120)],
    'a run after a client was told that it had completed': [
      'I6',
      new Story()
        .wins('r1', [0, 10], 1)
        .effect(1, 20)
        .request('r1', [0, 60], 'not_kept')
        .wins('r2', [100, 110], 2)
        .effect(2, 120),
    ],
    'another payload that is not refused': [
      'I7',
      new Story().run('r1', 1, 0).request('r2', [100, 110], 'in_progress', { payload: 'q' }),
    ],
    'another payload that is given the answer': [
      'I7',
      new Story()
        .run('r1', 1, 0)
        .request('r2', [100, 110], answered(1, { replayed: true, payload: 'q' }), { payload: 'q' }),
    ],
    'a running request after the answer': ['I8', new Story().run('r1', 1, 0).request('r2', [100, 110], 'in_progress')],
    'an unknown outcome after the answer': [
      'I8',
      new Story().run('r1', 1, 0).fault('stop', [0, 90], 'one').request('r2', [100, 110], 'unknown'),
    ],
    'a payload that is refused where there is none': ['I8', new Story().request('r1', [0, 10], 'reused')],
    'a replay of what nobody has recorded yet': [
      'I8',
      new Story().run('r1', 1, 100).request('r2', [0, 50], answered(1, { replayed: true })),
    ],
    'a running request where nothing ran': ['I9', new Story().request('r1', [0, 10], 'in_progress')],
    'a claim that is refused where nothing ran and no reply was lost': [
      'I9',
      new Story().call('r1', 'claim', [0, 70], { got: 'in_progress' }).request('r1', [0, 80], 'in_progress'),
    ],
    'a store that is said to be away, and is not': ['I9', new Story().request('r1', [0, 10], 'unavailable')],
    'an unknown outcome where no run was lost': [
      'I9',
      new Story().wins('r1', [0, 10], 1).request('r2', [1_200, 1_210], 'unknown'),
    ],
    'an unknown outcome where the transaction was undone before its commit': [
      'I9',
      new Story(transaction)
        .fault('stop', [12, 1_500], 'one')
        .wins('r1', [0, 10], 1)
        .call('r1', 'complete', [1_510, 1_520], { got: 'error' })
        .call('r1', 'release', [1_530, 1_540], { got: 'lost' })
        .request('r1', [0, 1_550], 'unknown'),
    ],
    'an answer that nobody should get': ['I9', new Story().request('r1', [0, 10], { kind: 'odd', what: '500' })],
    'a key that is not decided in the end': [
      'I10',
      killed(rerun).request('r2', [1_200, 1_210], 'unknown', { final: true }),
    ],
    'a record that says for ever that it runs': ['I10', killed().stored(9_000, { state: 'in_progress' })],
    'a process that fails by itself': [
      'I11',
      new Story().add({ type: 'trouble', kind: 'process', server: 'one', what: 'unhandled rejection' }),
    ],
    'a request that is refused because of itself': [
      'I12',
      new Story()
        .fault('cut_reply', [5, 10], 'one')
        .call('r1', 'claim', [0, 70], { got: 'in_progress' })
        .request('r1', [0, 80], 'in_progress'),
    ],
    'a run just before the end of a retention': ['I6', new Story(brief).run('r1', 1, 0.4).run('r2', 2, 520.3)],
    'a fencing token that decreases': ['I14', new Story(brief).run('r1', 2, 0).run('r2', 1, 600)],
    'a fencing token that is given twice': ['I14', new Story().wins('r1', [0, 10], 1).wins('r2', [5, 15], 1)],
    'a secret in a file': ['I15', new Story().add({ type: 'trouble', kind: 'leak', server: 'file', what: 'found' })],
    'a record that is gone too early': ['I16', new Story().run('r1', 1, 0).stored(300)],
    'a record that is another than was answered': [
      'I16',
      new Story().run('r1', 1, 0).stored(300, { digest: 'another' }),
    ],
    'a record that was taken back': ['I16', new Story().run('r1', 1, 0).stored(300, { state: 'abandoned' })],
    'a record that is over and still there': [
      'I16',
      new Story(brief).run('r1', 1, 0).stored(9_000, { state: 'over', remainingMs: -8_460 }),
    ],
    'a completion without its row': [
      'I17',
      new Story(transaction).wins('r1', [0, 10], 1).fault('kill', [30, 30], 'one').committed(1),
    ],
    'a record without its row': ['I17', undone().committed(2).stored(1_300, { fence: 3 })],
    'a row without a completion': ['I17', undone().effect(1, 20).committed(2)],
    'a row that a failed handler has left': [
      'I17',
      new Story(transaction)
        .wins('r1', [0, 10], 1)
        .effect(1, 20)
        .call('r1', 'release', [20, 30], { got: 'written' })
        .request('r1', [0, 40], 'failed'),
    ],
    'two rows of one completion': ['I17', undone().effect(2, 1_220, { attempt: 2 }).committed(2)],
    'a row of another attempt than that of its claim': [
      'I17',
      new Story(transaction).wins('r1', [0, 10], 1).effect(1, 20, { attempt: 2 }).committed(1),
    ],
    'two runs of one key that both committed': ['I1', undone().effect(1, 20).committed(1).committed(2)],
    'a client that is told that nothing was written, of a run whose answer others get': [
      'I8',
      new Story(transaction)
        .fault('cut_reply', [25, 30], 'one')
        .wins('r1', [0, 10], 1)
        .effect(1, 20)
        .call('r1', 'complete', [22, 40], { got: 'error', writtenAt: 24 })
        .committed(1)
        .request('r1', [0, 50], 'unavailable')
        .request('r2', [100, 110], answered(1, { replayed: true })),
    ],
    'two records of one key': [
      'I16',
      new Story().run('r1', 1, 0).stored(300, { digest: 'digest of 1' }).stored(300, { digest: 'digest of 1' }),
    ],
  };

  it.each(Object.entries(bad))('%s', (_name, [rule, story]) => {
    expect(story.broken).toContain(rule);
  });

  it('something for every rule that it knows', () => {
    const found = new Set(Object.values(bad).map(([rule]) => rule));
    expect([...found].sort()).toEqual(Object.keys(INVARIANTS).sort());
  });

  it('the same in a history that was written to a file and read again', () => {
    const { history } = bad['two effects']![1];
    const again = parseHistory(formatHistory(history));
    expect(again).toEqual(history);
    expect(check(again)).toEqual(check(history));
    expect(check(again)[0]).toMatchObject({ invariant: 'I1', subject: SUBJECT });
  });

  it('no history in a file that holds something else', () => {
    expect(() => parseHistory('')).toThrow('no history');
    expect(() => parseHistory('{"event":1}\n')).toThrow('no history');
  });
});
