/** A room as the server has it, and a network that breaks, for the tests of what the page holds. */

import type { RoomEvent } from '../src/model/events';
import type { Position } from '../src/model/room-log';

export function event(seq: number, epoch = 'e1', changes: Partial<RoomEvent> = {}): RoomEvent {
  return {
    seq,
    epoch,
    kind: 'message',
    sender: 'ada',
    at: 1_700_000_000_000 + seq,
    msgNo: seq,
    clientId: null,
    body: `message ${seq} of ${epoch}`,
    bodyBytes: 10,
    member: null,
    ...changes,
  };
}

export class ServerRoom {
  epoch = 'e1';
  head = 0;
  firstKept = 1;
  private rebuilt = 1;

  append(count: number): void {
    this.head += count;
  }

  /** The log had to be rebuilt: another numbering. */
  rebuild(): void {
    this.rebuilt += 1;
    this.epoch = `e${this.rebuilt}`;
    this.head = 1 + (this.head % 7);
    this.firstKept = 1;
  }

  /** A loss was accepted: numbering goes on above everything, and below is another epoch. */
  renumber(above: number): void {
    this.rebuilt += 1;
    this.epoch = `e${this.rebuilt}`;
    this.head += above;
    this.firstKept = this.head;
  }

  /** Retention takes the oldest. */
  forget(count: number): void {
    this.firstKept = Math.max(1, Math.min(this.head, this.firstKept + count));
  }

  /** What a SUBSCRIBE from that position is sent, or null: epoch_changed. */
  backlog(position: Position): RoomEvent[] | null {
    if (position.kind === 'after' && position.epoch !== this.epoch) return null;
    const from = position.kind === 'last' ? this.head - position.count + 1 : position.seq + 1;
    return this.range(from, this.head);
  }

  range(from: number, to: number): RoomEvent[] {
    const events: RoomEvent[] = [];
    for (let seq = Math.max(from, this.firstKept); seq <= Math.min(to, this.head); seq += 1) {
      events.push(event(seq, this.epoch));
    }
    return events;
  }
}
