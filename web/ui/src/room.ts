/** One room on this page: what is held of it, who is in it, and how its subscription stands. */

import { Members } from './model/members';
import { RoomLog } from './model/room-log';
import type { Subscription } from './net/link';

export class Room {
  readonly log = new RoomLog();
  readonly members = new Members();
  /** Why the room cannot be read; null when it can, as far as we know. */
  refusal: string | null = null;
  older: 'idle' | 'loading' | 'failed' = 'idle';
  /** The line "new" stands before the first message with a higher number; null: no line. */
  readBefore: number | null = null;

  subscription: Subscription | null = null;
  /** Counts subscriptions: an answer that belongs to an earlier one is ignored. */
  turn = 0;
  /** Holes met since the room was whole last. */
  holes = 0;
  join: 'no' | 'wanted' | 'asked' | 'done' = 'no';
  lastOpened = 0;
  membersTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(readonly id: string) {}
}
