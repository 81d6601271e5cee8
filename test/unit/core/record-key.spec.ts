import { createHash, createHmac } from 'node:crypto';
import fc from 'fast-check';
import { downstreamKeyOf } from '../../../lib/core/context.js';
import { fingerprintOf, fingerprintOfPayload } from '../../../lib/core/fingerprint.js';
import { hashParts } from '../../../lib/core/hash.js';
import { recordKeyOf } from '../../../lib/core/record-key.js';

/** Texts that a careless way to join parts would mix up: digits, delimiters, nothing, other scripts, halves of characters. */
const trickyText = fc.oneof(
  fc.string({
    unit: fc.constantFrom(
      ':',
      '1',
      '2',
      '0',
      '\u0000',
      '|',
      '/',
      'a',
      '"',
      ',',
      ' ',
      '\ud83d',
      '\ude00',
      '\ufffd',
      '\u00e9',
      'e\u0301',
    ),
    maxLength: 6,
  }),
  fc.string({ maxLength: 8 }),
);

describe('hashParts', () => {
  it('gives 43 characters of base64url', () => {
    fc.assert(
      fc.property(fc.array(trickyText), (parts) => {
        expect(hashParts(parts)).toMatch(/^[A-Za-z0-9_-]{43}$/);
      }),
    );
  });

  it('gives two different lists of texts two different hashes', () => {
    fc.assert(
      fc.property(fc.array(trickyText, { maxLength: 4 }), fc.array(trickyText, { maxLength: 4 }), (a, b) => {
        const same = a.length === b.length && a.every((part, i) => part === b[i]);
        expect(hashParts(a) === hashParts(b)).toBe(same);
      }),
      { numRuns: 2_000 },
    );
  });

  it('keeps halves of surrogate pairs apart, which UTF-8 has one replacement for', () => {
    const halves = ['\ud800', '\ud801', '\udc00', '\ufffd'];
    expect(new Set(halves.map((half) => hashParts([half]))).size).toBe(4);
  });

  it('is given another hash by a secret, and by each secret another', () => {
    const hashes = [undefined, 'a', 'b', Buffer.from('c')].map((secret) => hashParts(['x'], secret));
    expect(new Set(hashes).size).toBe(4);
    expect(hashParts(['x'], 'a')).toBe(hashParts(['x'], Buffer.from('a')));
  });

  it('is SHA-256, and HMAC with it where there is a secret', () => {
    const bytes = Buffer.from([1, 2, 3]);
    const framed = Buffer.concat([Buffer.from('3b:', 'utf16le'), bytes]);
    expect(hashParts([bytes])).toBe(createHash('sha256').update(framed).digest('base64url'));
    expect(hashParts([bytes], 's')).toBe(createHmac('sha256', 's').update(framed).digest('base64url'));
    const mixed = Buffer.concat([
      Buffer.from('4s:ab2s:c3b:', 'utf16le'),
      bytes,
      Buffer.from('0s:2s:\ud800', 'utf16le'),
    ]);
    expect(hashParts(['ab', 'c', bytes, '', '\ud800'])).toBe(createHash('sha256').update(mixed).digest('base64url'));
  });
});

describe('recordKeyOf', () => {
  const triple = fc.record({ scope: trickyText, operation: trickyText, key: trickyText });

  it('gives no two different (scope, operation, key) the same record', () => {
    fc.assert(
      fc.property(triple, triple, (a, b) => {
        const same = a.scope === b.scope && a.operation === b.operation && a.key === b.key;
        expect(recordKeyOf(a) === recordKeyOf(b)).toBe(same);
      }),
      { numRuns: 2_000 },
    );
  });

  it('cannot be steered into another scope or operation by the choice of the key', () => {
    fc.assert(
      fc.property(trickyText, trickyText, trickyText, trickyText, (scope, operation, key, piece) => {
        fc.pre(piece.length > 0);
        const own = recordKeyOf({ scope, operation, key });
        // The same characters, cut in other places.
        const others = [
          { scope: scope + piece, operation, key },
          { scope, operation: operation + piece, key },
          { scope, operation: piece + operation, key },
          { scope: scope + operation, operation: key, key: piece },
          { scope, operation: `${operation}${key}`, key: piece },
        ];
        for (const other of others) {
          if (other.scope === scope && other.operation === operation && other.key === key) continue;
          expect(recordKeyOf(other)).not.toBe(own);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('says nothing about scope and key', () => {
    const key = recordKeyOf({ scope: 'tenant', operation: 'op', key: 'secret' });
    expect(key).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(key).not.toContain('secret');
    expect(recordKeyOf({ scope: 'tenant', operation: 'op', key: 'secret' })).toBe(key);
  });
});

describe('fingerprintOf', () => {
  const parts = fc.array(fc.tuple(trickyText, trickyText), { maxLength: 3 });

  it('tells apart any two lists of named parts', () => {
    fc.assert(
      fc.property(parts, parts, (a, b) => {
        expect(fingerprintOf(a) === fingerprintOf(b)).toBe(JSON.stringify(a) === JSON.stringify(b));
      }),
      { numRuns: 3_000 },
    );
  });

  it('is no record key of the same parts', () => {
    expect(fingerprintOf([['a', 'b']])).not.toBe(recordKeyOf({ scope: 'fingerprint', operation: 'a', key: 'b' }));
  });

  it('changes with the secret, and is stable under one', () => {
    const plain = fingerprintOfPayload({ amount: 5 });
    const first = fingerprintOfPayload({ amount: 5 }, 'first');
    expect(new Set([plain, first, fingerprintOfPayload({ amount: 5 }, 'second')]).size).toBe(3);
    expect(fingerprintOfPayload({ amount: 5 }, 'first')).toBe(first);
  });

  it('takes equal payloads for one, however their members are ordered', () => {
    expect(fingerprintOfPayload({ a: 1, b: [2, 3] })).toBe(fingerprintOfPayload({ b: [2, 3], a: 1 }));
    expect(fingerprintOfPayload({ a: 1 })).not.toBe(fingerprintOfPayload({ a: '1' }));
    expect(fingerprintOfPayload(undefined)).not.toBe(fingerprintOfPayload(null));
  });
});

describe('downstreamKeyOf', () => {
  it('is one key for each record and name, in the characters that providers allow', () => {
    fc.assert(
      fc.property(fc.uuid(), fc.uuid(), trickyText, trickyText, (record, otherRecord, name, otherName) => {
        const key = downstreamKeyOf(record, name);
        expect(key).toMatch(/^[A-Za-z0-9_-]{1,48}$/);
        expect(downstreamKeyOf(record, name)).toBe(key);
        expect(downstreamKeyOf(otherRecord, name) === key).toBe(otherRecord === record);
        expect(downstreamKeyOf(record, otherName) === key).toBe(otherName === name);
      }),
    );
  });
});
