/**
 * What the page holds of one room: a dense run of its log, and the position from which it goes on.
 *
 * Pure: no socket, no clock, no DOM. The rules that keep a hole or a double off the screen are all here, and nowhere
 * else; test/room-log.test.ts drives them with every break that a network can make.
 *
 *   - The run is dense: events[i].seq === events[0].seq + i, all of one epoch.
 *   - It grows at its end by exactly the next number (`receive`) and at its beginning by a page that ends right before
 *     it (`prepend`). A lower number is a repeat and changes nothing; a higher one is a hole: nothing is shown, the
 *     caller subscribes again from `position()`, and the server sends all that is missing.
 *   - Another epoch is another log: the run is dropped and begins anew.
 */

import type { RoomEvent } from './events';

/** How many events a room that is opened shows at first, and how many a page of history brings. */
export const PAGE = 50;

/** After an absence that missed more than this, the room is opened anew at its end, and history is one scroll away. */
export const CATCH_UP_MAX = 2_000;

/** More than this is not held: the oldest go, and come back by scrolling. About 10 MB of short messages. */
export const HELD_MAX = 20_000;

/** What SUBSCRIBE asks for: the last events of a room that we do not know, or everything after what we hold. */
export type Position =
  | { readonly kind: 'last'; readonly count: number }
  | { readonly kind: 'after'; readonly seq: number; readonly epoch: string };

export type Received =
  | 'taken'
  /** We have it. */
  | 'repeat'
  /** A number is missing before it: subscribe again from `position()`. */
  | 'hole'
  /** It is of another log: `restart()`, then subscribe again. */
  | 'epoch';

export class RoomLog {
  /** Read only for everybody else; replaced, not changed, when it grows at the front. */
  events: readonly RoomEvent[] = [];
  /** The first number that the server still has: at or below it, there is no older history to ask for. */
  firstKept = 1;
  /** Counts restarts: what was remembered about numbers of an earlier run is void. */
  generation = 0;
  /** The head of the room when we subscribed last; `caughtUp` compares. */
  private headAtSubscribe: number | null = null;

  get lo(): number {
    return this.events[0]?.seq ?? 0;
  }

  get hi(): number {
    return this.events[this.events.length - 1]?.seq ?? 0;
  }

  get epoch(): string | null {
    return this.events[0]?.epoch ?? null;
  }

  get last(): RoomEvent | undefined {
    return this.events[this.events.length - 1];
  }

  /** True when everything that was in the room at the time of the last SUBSCRIBE is here. */
  get caughtUp(): boolean {
    return this.headAtSubscribe !== null && this.hi >= this.headAtSubscribe;
  }

  /** True when there may be older events to ask for. */
  get hasOlder(): boolean {
    return this.lo > this.firstKept;
  }

  position(): Position {
    const last = this.last;
    return last === undefined
      ? { kind: 'last', count: PAGE }
      : { kind: 'after', seq: last.seq, epoch: last.epoch };
  }

  /** The connection is gone: what we hold stays, whether it is all there is we do not know. */
  disconnected(): void {
    this.headAtSubscribe = null;
  }

  /**
   * The server accepted a SUBSCRIBE from `asked`: where the room stands. `restart` when the gap is too long to be shown
   * event by event, or when the server no longer keeps the events right after ours; the caller then restarts and
   * subscribes again.
   */
  subscribed(asked: Position, head: number, firstKept: number): 'go_on' | 'restart' {
    this.firstKept = Math.max(1, firstKept);
    if (asked.kind === 'after' && (head - asked.seq > CATCH_UP_MAX || firstKept > asked.seq + 1)) return 'restart';
    this.headAtSubscribe = head;
    return 'go_on';
  }

  /** An event from the subscription. Changes something only when the answer is `taken`. */
  receive(event: RoomEvent): Received {
    const last = this.last;
    if (last !== undefined) {
      if (event.epoch !== last.epoch) return 'epoch';
      if (event.seq <= last.seq) return 'repeat';
      if (event.seq > last.seq + 1) return 'hole';
    }
    (this.events as RoomEvent[]).push(event);
    return 'taken';
  }

  /**
   * A page of history, ascending, asked for with `before_seq = lo`. `taken` when it joins what we hold without a hole;
   * `hole` when it does not reach up to it (the store is a moment behind the log: ask again); `epoch` when it is of
   * another log.
   */
  prepend(page: readonly RoomEvent[], epoch: string, firstKept: number): 'taken' | 'hole' | 'epoch' {
    if (this.epoch !== null && epoch !== this.epoch) return 'epoch';
    const before = page.filter((event) => event.seq < this.lo);
    this.firstKept = Math.max(1, firstKept);
    if (before.length === 0) return this.hasOlder ? 'hole' : 'taken';
    if (!isDense(before) || before[before.length - 1]!.seq !== this.lo - 1) return 'hole';
    this.events = [...before, ...this.events];
    return 'taken';
  }

  /** Drops the oldest events beyond `HELD_MAX`; called while the reader is at the end, so nobody looks at them. */
  trim(): boolean {
    if (this.events.length <= HELD_MAX + PAGE) return false;
    this.events = this.events.slice(-HELD_MAX);
    return true;
  }

  /** Forgets everything held: the next position is the end of the room. */
  restart(): void {
    this.generation += 1;
    this.events = [];
    this.firstKept = 1;
    this.headAtSubscribe = null;
  }

  /** Events from `from` to `to`, both included, as far as they are held. */
  slice(from: number, to: number): readonly RoomEvent[] {
    if (this.events.length === 0) return [];
    return this.events.slice(Math.max(0, from - this.lo), Math.max(0, to - this.lo + 1));
  }
}

/** True when the numbers follow each other without a hole or a repeat. */
export function isDense(events: readonly RoomEvent[]): boolean {
  return events.every((event, index) => index === 0 || event.seq === events[index - 1]!.seq + 1);
}
