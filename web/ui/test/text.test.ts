import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { languages, preferredLanguage, refusalText } from '../src/text/catalogue';
import { partsOf } from '../src/text/links';
import { Clock } from '../src/text/time';

describe('links', () => {
  test('the parts are the text, and only http and https become links', () => {
    const pieces = fc.constantFrom(
      'http://', 'https://', 'HTTPS://', 'javascript:', 'data:', 'ftp://', '//', 'example.org', '.', ',', '(', ')',
      '[', ']', ' ', '\n', '"', '<', '>', '@', ':', '?a=1&b=2', '#x', '안녕', '%00', '\u202e', '*', '_', '~', '\\',
    );
    const text = fc.oneof(fc.string({ unit: 'binary' }), fc.array(pieces, { maxLength: 30 }).map((p) => p.join('')));
    fc.assert(
      fc.property(text, (written) => {
        const parts = partsOf(written);
        expect(parts.map((part) => part.text).join('')).toBe(written);
        for (const { href } of parts) if (href !== undefined) expect(new URL(href).protocol).toMatch(/^https?:$/);
      }),
      { numRuns: 1_000 },
    );
  });

  test.each([
    ['see https://example.org/a.', 'https://example.org/a'],
    ['(https://example.org/a)', 'https://example.org/a'],
    ['https://example.org/a_(b)', 'https://example.org/a_(b)'],
    ['“https://example.org/?q=1,2!”', 'https://example.org/?q=1,2'],
    ['https://example.org…', 'https://example.org'],
    ['https://example.org/한글。', 'https://example.org/한글'],
    ['<https://example.org/a>', 'https://example.org/a'],
    ['**https://example.org/a**', 'https://example.org/a'],
  ])('%s links to %s', (text, address) => {
    expect(partsOf(text).find((part) => part.href !== undefined)?.text).toBe(address);
  });

  test.each(['javascript:alert(1)', 'https://', 'http:///', 'data:text/html,x', 'example.org'])('%s is no link', (text) => {
    expect(partsOf(text).every((part) => part.href === undefined)).toBe(true);
  });
});

describe('languages', () => {
  test('the browser’s wishes decide, in order', () => {
    expect(preferredLanguage(['ko-KR', 'en'])).toBe('ko');
    expect(preferredLanguage(['de', 'KO'])).toBe('ko');
    expect(preferredLanguage(['de', 'fr'])).toBe('en');
    expect(preferredLanguage([])).toBe('en');
    expect(preferredLanguage(['constructor'])).toBe('en');
  });

  test('no sentence is empty, and every refusal says something', () => {
    for (const text of Object.values(languages)) {
      for (const sentence of Object.values(text)) if (typeof sentence === 'string') expect(sentence).not.toBe('');
      expect(refusalText(text, 'forbidden')).not.toContain('forbidden');
      expect(refusalText(text, 'some_new_code')).toContain('some_new_code');
      expect(refusalText(text, 'toString')).toContain('toString');
    }
  });
});

describe('time', () => {
  const at = (day: number, hour: number): number => new Date(2026, 10, day, hour, 5).getTime();

  test('days are told as a person would', () => {
    const clock = new Clock('en', languages.en);
    expect(clock.day(at(23, 1), at(23, 23))).toBe('Today');
    expect(clock.day(at(22, 23), at(23, 0))).toBe('Yesterday');
    expect(clock.day(at(20, 12), at(23, 0))).toBe('Friday, November 20');
    expect(clock.day(new Date(2025, 0, 2).getTime(), at(23, 0))).toBe('January 2, 2025');
    const korean = new Clock('ko', languages.ko);
    expect(korean.day(at(20, 12), at(23, 0))).toBe('11월 20일 금요일');
  });
});
