import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';

import { nextMove, resendDelayMs } from '../src/model/backoff';
import { eventFromFrame, eventFromJson } from '../src/model/events';
import { hashOfRoom, isNewRoomId, isRoomId, isUserId, newClientId, roomFromHash, roomIdFromName } from '../src/model/ids';
import { Members, type Member } from '../src/model/members';
import { AT_END, hold, newer, older, ROWS_MAX, rowsOf, type Viewport } from '../src/model/viewport';

afterEach(() => vi.unstubAllGlobals());

const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe('when to come back', () => {
  test('waits longer each time, never longer than ten seconds, and never all at once', () => {
    fc.assert(
      fc.property(fc.nat(2_000), random, (attempt, chance) => {
        const move = nextMove(attempt, 1006, chance);
        if (move.kind !== 'retry') throw new Error('it comes back');
        const step = Math.min(10_000, 500 * 2 ** Math.min(attempt, 16));
        expect(move.delayMs).toBeGreaterThanOrEqual(step / 2 - 1);
        expect(move.delayMs).toBeLessThanOrEqual(step);
      }),
    );
  });

  test('the close code says whether, and whether later', () => {
    expect(nextMove(0, 4001, 0)).toEqual({ kind: 'halt' });
    expect(nextMove(0, 4003, 0)).toEqual({ kind: 'halt' });
    for (const code of [4029, 4503]) expect(nextMove(0, code, 0)).toEqual({ kind: 'retry', delayMs: 2_000 });
    for (const code of [1001, 1006, 4008]) expect(nextMove(0, code, 0)).toEqual({ kind: 'retry', delayMs: 250 });
  });

  test('a message that was not answered is sent again within a bound', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), random, (attempts, chance) => {
        const delay = resendDelayMs(attempts, chance);
        expect(delay).toBeGreaterThanOrEqual(500);
        expect(delay).toBeLessThanOrEqual(15_000);
      }),
    );
  });
});

describe('events', () => {
  const headers = {
    'x-seq': '7',
    'x-epoch': '63f',
    'x-kind': 'message',
    'x-sender': 'ada',
    'x-time': '2026-11-23T05:00:00.123456Z',
    'x-msg-no': '5',
    'x-client-id': 'c1',
  };
  const bytes = new TextEncoder().encode('안녕');

  test('are read from a frame', () => {
    expect(eventFromFrame(headers, bytes)).toEqual({
      seq: 7,
      epoch: '63f',
      kind: 'message',
      sender: 'ada',
      at: Date.parse('2026-11-23T05:00:00.123Z'),
      msgNo: 5,
      clientId: 'c1',
      body: '안녕',
      bodyBytes: 6,
      member: null,
    });
  });

  test('are the same from the history as from a frame', () => {
    const row = {
      seq: 7,
      kind: 'message',
      sender: 'ada',
      at: '2026-11-23T05:00:00.123456Z',
      msg_no: 5,
      client_id: 'c1',
      body: '안녕',
    };
    const { bodyBytes: _, ...fromJson } = eventFromJson(row, '63f')!;
    expect(eventFromFrame(headers, bytes)).toMatchObject(fromJson);
  });

  test('a body that is no text is shown as none', () => {
    expect(eventFromFrame(headers, new Uint8Array([0xff, 0xfe, 0]))).toMatchObject({ body: null, bodyBytes: 3 });
    expect(
      eventFromJson({ seq: 1, kind: 'message', sender: 'a', at: '2026-11-23T05:00:00Z', body_b64: '//4A' }, 'e'),
    ).toMatchObject({ body: null, bodyBytes: 3 });
  });

  test.each(['x-seq', 'x-epoch', 'x-kind', 'x-sender', 'x-time'])('without %s it is no event', (name) => {
    const { [name as keyof typeof headers]: _, ...rest } = headers;
    expect(eventFromFrame(rest, bytes)).toBeNull();
  });

  test('anything at all from the history is an event or none, and no exception', () => {
    fc.assert(
      fc.property(fc.anything(), (row) => {
        eventFromJson(row, 'e');
      }),
    );
  });
});

describe('names', () => {
  test('a room survives its address', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z0-9._~:@+-]{1,128}$/), (room) => {
        expect(roomFromHash(hashOfRoom(room))).toBe(room);
      }),
    );
  });

  test.each(['', '#', '#/room/', '#/room/a/b', '#/room/%', '#/room/%20', '#/other/a'])('%s names no room', (hash) => {
    expect(roomFromHash(hash)).toBeNull();
  });

  test('an id made from a name is an id, or nothing', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 200 }), (name) => {
        const id = roomIdFromName(name);
        expect(id === '' || isNewRoomId(id)).toBe(true);
      }),
    );
    expect(roomIdFromName('Lunch plans!')).toBe('lunch-plans');
    expect(roomIdFromName('Café')).toBe('cafe');
    expect(roomIdFromName('점심')).toBe('');
  });

  test('ids keep to the rule of the protocol', () => {
    expect(isUserId('ada.lovelace+1@x')).toBe(true);
    expect(isRoomId('~abc')).toBe(true);
    expect(isNewRoomId('~abc')).toBe(false);
    for (const wrong of ['', 'a b', 'a/b', '민지', 'a'.repeat(129)]) expect(isUserId(wrong)).toBe(false);
  });

  test('client ids are long and new', () => {
    // Node 18 has no global crypto; a browser always has.
    const getRandomValues = (into: Uint8Array): Uint8Array => into.map(() => Math.floor(Math.random() * 256));
    vi.stubGlobal('crypto', { getRandomValues });
    const ids = new Set(Array.from({ length: 100 }, newClientId));
    expect(ids.size).toBe(100);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{32}$/);
  });
});

describe('who is in a room', () => {
  test('is the same in whatever order the facts come', () => {
    const fact = fc.record({
      user: fc.constantFrom('ada', 'bob', 'eve'),
      role: fc.constantFrom('owner', 'member', 'none'),
      seq: fc.integer({ min: 1, max: 50 }),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(fact, { selector: (f: Member) => `${f.user}/${f.seq}` }).chain((facts) =>
          fc.tuple(fc.constant(facts), fc.shuffledSubarray(facts, { minLength: facts.length })),
        ),
        ([facts, shuffled]) => {
          const one = new Members();
          const other = new Members();
          one.learnList(facts);
          for (const f of shuffled) other.learn(f);
          expect(other.list()).toEqual(one.list());
        },
      ),
    );
  });
});

describe('the rows in the document', () => {
  test('never exceed the bound, stay inside what is held, and move with the reader', () => {
    const move = fc.constantFrom('older', 'newer', 'hold', 'grow', 'history', 'end');
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 500 }), fc.array(move, { maxLength: 100 }), (size, moves) => {
        let lo = 1_000;
        let hi = lo + size - 1;
        let view: Viewport = AT_END;
        for (const one of moves) {
          const before = rowsOf(view, lo, hi);
          if (one === 'older') view = older(view, lo, hi);
          else if (one === 'newer') view = newer(view, lo, hi);
          else if (one === 'hold') view = hold(view, lo, hi);
          else if (one === 'end') view = AT_END;
          else if (one === 'grow') hi += 7;
          else lo = Math.max(1, lo - 50);
          const { from, to } = rowsOf(view, lo, hi);
          expect(from).toBeGreaterThanOrEqual(lo);
          expect(to).toBeLessThanOrEqual(hi);
          expect(to - from + 1).toBeLessThanOrEqual(ROWS_MAX);
          expect(to).toBeGreaterThanOrEqual(from);
          if (one === 'older') expect(from).toBeLessThanOrEqual(before.from);
          if (one === 'newer') expect(to).toBeGreaterThanOrEqual(before.to);
          if (one === 'hold') expect({ from, to }).toEqual(before);
        }
        // From anywhere, scrolling on reaches either end.
        for (let step = 0; rowsOf(view, lo, hi).from > lo; step += 1) {
          expect(step).toBeLessThan(200);
          view = older(view, lo, hi);
        }
        for (let step = 0; rowsOf(view, lo, hi).to < hi; step += 1) {
          expect(step).toBeLessThan(200);
          view = newer(view, lo, hi);
        }
      }),
    );
  });
});
