import fc from 'fast-check';
import { splitText } from '../../sample-app/src/documents/split.js';
import { readSettings } from '../../sample-app/src/settings.js';

describe('splitting a document', () => {
  const words = fc.array(fc.stringMatching(/^[a-z]{1,12}$/), { minLength: 1, maxLength: 400 });
  const document = fc.array(words, { minLength: 1, maxLength: 8 }).map((all) => all.map((one) => one.join(' ')));

  it('loses nothing and keeps to the length', () => {
    fc.assert(
      fc.property(document, (paragraphs) => {
        const parts = splitText(paragraphs.join('\n\n'));
        expect(parts.every(({ length }) => length > 0 && length <= 800)).toBe(true);
        expect(parts.join('').replace(/\s/g, '')).toBe(paragraphs.join('').replace(/\s/g, ''));
      }),
      { numRuns: 50 },
    );
  });

  it('keeps short paragraphs together and long ones apart', () => {
    expect(splitText('a\n\nb')).toEqual(['a\n\nb']);
    expect(splitText(`${'a'.repeat(500)}\n\n${'b'.repeat(500)}`)).toEqual(['a'.repeat(500), 'b'.repeat(500)]);
    expect(splitText('a'.repeat(801))).toEqual(['a'.repeat(800), 'a']);
    expect(splitText(' \n\n ')).toEqual([]);
  });
});

describe('the settings', () => {
  it('need nothing', () => {
    expect(readSettings({})).toMatchObject({
      port: 3000,
      idempotency: { lease: '30s', retention: '24h', afterCrash: 'block' },
      model: { name: 'parrot-1' },
    });
  });

  it('take an endpoint for the model', () => {
    const { model } = readSettings({ MODEL_BASE_URL: 'http://model.example/v1/' });
    expect(model).toMatchObject({ baseUrl: 'http://model.example/v1', name: 'gpt-4o-mini' });
  });

  it.each([
    [{ PORT: 'http' }, /PORT must be a whole number/],
    [{ MODEL_DELAY_MS: '-1' }, /MODEL_DELAY_MS must be a whole number/],
    [{ AFTER_CRASH: 'retry' }, /AFTER_CRASH must be one of block, rerun/],
  ])('say what is wrong with %j', (env, message) => {
    expect(() => readSettings(env)).toThrow(message);
  });
});
