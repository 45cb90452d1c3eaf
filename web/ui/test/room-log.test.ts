import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { CATCH_UP_MAX, HELD_MAX, isDense, PAGE, RoomLog, type Position } from '../src/model/room-log';
import { event, ServerRoom } from './server';

/** A subscription over a network that loses, repeats and cuts; reacts to the log's answers as chat.ts does. */
class Subscriber {
  readonly log = new RoomLog();
  private queue: ReturnType<ServerRoom['range']> = [];
  private asked: Position = { kind: 'last', count: PAGE };
  private receiptDue = false;

  constructor(private readonly server: ServerRoom) {}

  connect(): void {
    this.log.disconnected();
    this.asked = this.log.position();
    const backlog = this.server.backlog(this.asked);
    if (backlog === null) {
      this.log.restart();
      this.connect();
      return;
    }
    this.queue = backlog;
    this.receiptDue = true;
  }

  cut(): void {
    this.queue = [];
    this.receiptDue = false;
    this.log.disconnected();
  }

  receipt(): void {
    if (!this.receiptDue) return;
    this.receiptDue = false;
    const verdict = this.log.subscribed(this.asked, this.server.head, this.server.firstKept);
    if (verdict === 'restart') {
      this.log.restart();
      this.connect();
    }
  }

  live(from: number): void {
    this.queue.push(...this.server.range(from, this.server.head));
  }

  deliver(count: number): void {
    for (const one of this.queue.splice(0, count)) {
      const answer = this.log.receive(one);
      if (answer === 'hole') return this.connect();
      if (answer === 'epoch') {
        this.log.restart();
        return this.connect();
      }
    }
  }

  lose(): void {
    this.queue.shift();
  }

  repeat(): void {
    const [first] = this.queue;
    if (first !== undefined) this.queue.splice(1, 0, first);
  }

  swap(): void {
    if (this.queue.length >= 2) this.queue.splice(0, 2, this.queue[1]!, this.queue[0]!);
  }

  /** A page of history, of which the store may not have the newest yet. */
  older(missing: number): void {
    if (!this.log.hasOlder) return;
    const page = this.server.range(this.log.lo - PAGE, this.log.lo - 1 - missing);
    if (this.log.prepend(page, this.server.epoch, this.server.firstKept) === 'epoch') {
      this.log.restart();
      this.connect();
    }
  }
}

function expectTrue(log: RoomLog): void {
  expect(isDense(log.events)).toBe(true);
  // Every event is the one that the server gave that number, all of one numbering.
  expect(log.events.find((one) => one.body !== `message ${one.seq} of ${log.epoch}`)).toBeUndefined();
}

const step = fc.oneof(
  fc.record({ kind: fc.constant('append' as const), count: fc.integer({ min: 1, max: 120 }) }),
  fc.record({ kind: fc.constant('deliver' as const), count: fc.integer({ min: 1, max: 80 }) }),
  fc.record({ kind: fc.constant('older' as const), count: fc.integer({ min: 0, max: 3 }) }),
  fc.record({
    kind: fc.constantFrom('cut', 'connect', 'lose', 'repeat', 'swap', 'receipt', 'rebuild', 'renumber', 'forget'),
    count: fc.integer({ min: 1, max: 30 }),
  }),
);

describe('what is held of a room', () => {
  test('is dense and true after every break, and whole once the network is well', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 }), fc.array(step, { maxLength: 60 }), (start, steps) => {
        const server = new ServerRoom();
        server.append(start);
        const reader = new Subscriber(server);
        reader.connect();
        for (const { kind, count } of steps) {
          switch (kind) {
            case 'append': {
              const before = server.head;
              server.append(count);
              reader.live(before + 1);
              break;
            }
            case 'deliver':
              reader.deliver(count);
              break;
            case 'older':
              reader.older(count);
              break;
            case 'cut':
              reader.cut();
              break;
            case 'connect':
              reader.connect();
              break;
            case 'lose':
              reader.lose();
              break;
            case 'repeat':
              reader.repeat();
              break;
            case 'swap':
              reader.swap();
              break;
            case 'receipt':
              reader.receipt();
              break;
            case 'rebuild':
              server.rebuild();
              break;
            case 'renumber':
              server.renumber(count);
              reader.live(server.head);
              break;
            case 'forget':
              server.forget(count);
              break;
          }
          expectTrue(reader.log);
        }
        // Well again: connects may restart (another epoch, too long a gap), each at most once.
        for (let round = 0; round < 3; round += 1) {
          reader.connect();
          reader.receipt();
          reader.deliver(Number.POSITIVE_INFINITY);
        }
        expectTrue(reader.log);
        expect(reader.log.hi).toBe(server.head);
        expect(reader.log.caughtUp).toBe(true);
        // And back to the very beginning of what is kept.
        for (let page = 0; reader.log.hasOlder; page += 1) {
          expect(page).toBeLessThan(1_000);
          reader.older(0);
        }
        expectTrue(reader.log);
        if (server.head > 0) expect(reader.log.lo).toBeLessThanOrEqual(server.firstKept);
      }),
      { numRuns: 300 },
    );
  });

  test('asks for what follows, and for the end of a room that it does not know', () => {
    const log = new RoomLog();
    expect(log.position()).toEqual({ kind: 'last', count: PAGE });
    log.receive(event(7));
    log.receive(event(8));
    expect(log.position()).toEqual({ kind: 'after', seq: 8, epoch: 'e1' });
  });

  test('takes a number once, refuses a jump, and shows nothing of it', () => {
    const log = new RoomLog();
    expect(log.receive(event(5))).toBe('taken');
    expect(log.receive(event(5))).toBe('repeat');
    expect(log.receive(event(3))).toBe('repeat');
    expect(log.receive(event(7))).toBe('hole');
    expect(log.hi).toBe(5);
    expect(log.receive(event(6, 'e2'))).toBe('epoch');
    expect(log.hi).toBe(5);
  });

  test('drops what it holds when a room is numbered anew, and goes on from there', () => {
    const log = new RoomLog();
    log.receive(event(5));
    const first = event(1005, 'e2', { kind: 'room.renumbered' });
    expect(log.receive(first)).toBe('epoch');
    log.restart();
    expect(log.position()).toEqual({ kind: 'last', count: PAGE });
    expect(log.subscribed(log.position(), 1005, 1005)).toBe('go_on');
    expect(log.receive(first)).toBe('taken');
    expect(log.caughtUp).toBe(true);
    expect(log.receive(event(1006, 'e2'))).toBe('taken');
    expect(log.prepend([], 'e2', 1005)).toBe('taken');
    expect(log.hasOlder).toBe(false);
  });

  test('is caught up only when the head of the SUBSCRIBE is here', () => {
    const log = new RoomLog();
    expect(log.caughtUp).toBe(false);
    log.receive(event(1));
    log.subscribed({ kind: 'last', count: PAGE }, 2, 1);
    expect(log.caughtUp).toBe(false);
    log.receive(event(2));
    expect(log.caughtUp).toBe(true);
    log.disconnected();
    expect(log.caughtUp).toBe(false);
  });

  test('an empty room is caught up at once', () => {
    const log = new RoomLog();
    log.subscribed({ kind: 'last', count: PAGE }, 0, 1);
    expect(log.caughtUp).toBe(true);
    expect(log.hasOlder).toBe(false);
  });

  test('a gap too long to be shown event by event begins anew at the end', () => {
    const log = new RoomLog();
    log.receive(event(1));
    const asked = log.position();
    expect(log.subscribed(asked, 1 + CATCH_UP_MAX, 1)).toBe('go_on');
    expect(log.subscribed(asked, 2 + CATCH_UP_MAX, 1)).toBe('restart');
  });

  test('when retention took what follows, the room begins anew instead of showing a hole', () => {
    const log = new RoomLog();
    log.receive(event(10));
    const asked = log.position();
    expect(log.subscribed(asked, 30, 11)).toBe('go_on');
    expect(log.subscribed(asked, 30, 12)).toBe('restart');
  });

  test('a page of history that does not reach up to what is held is not taken', () => {
    const log = new RoomLog();
    log.receive(event(10));
    expect(log.prepend([event(7), event(8)], 'e1', 1)).toBe('hole');
    expect(log.prepend([event(7), event(9)], 'e1', 1)).toBe('hole');
    expect(log.prepend([], 'e1', 1)).toBe('hole');
    expect(log.prepend([event(8), event(9)], 'e2', 1)).toBe('epoch');
    expect(log.lo).toBe(10);
    expect(log.prepend([event(8), event(9), event(10)], 'e1', 8)).toBe('taken');
    expect(log.lo).toBe(8);
    expect(log.hasOlder).toBe(false);
  });

  test('what is held has a bound, and what was dropped can be asked for again', () => {
    const log = new RoomLog();
    for (let seq = 1; seq <= HELD_MAX + PAGE + 1; seq += 1) log.receive(event(seq));
    expect(log.trim()).toBe(true);
    expect(log.events.length).toBe(HELD_MAX);
    expect(log.hasOlder).toBe(true);
    expect(log.trim()).toBe(false);
  });
});
