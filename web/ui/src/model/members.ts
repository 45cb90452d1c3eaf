/**
 * Who is in a room: a list from the store, and the events that came since.
 *
 * The store may be a moment behind the log, so neither "load, then listen" nor the reverse is right by itself. Every
 * fact carries the seq it is true at, and per person the highest seq wins: then the order of arrival does not matter.
 */

import type { RoomEvent } from './events';

export interface Member {
  readonly user: string;
  /** `owner`, `member`, or `none` for somebody who left. */
  readonly role: string;
  readonly seq: number;
}

export class Members {
  private readonly byUser = new Map<string, Member>();
  loaded = false;

  /** Takes one fact; false when a newer one about that person is known. */
  learn(fact: Member): boolean {
    const known = this.byUser.get(fact.user);
    if (known !== undefined && known.seq >= fact.seq) return false;
    this.byUser.set(fact.user, fact);
    return true;
  }

  learnList(list: readonly Member[]): void {
    for (const fact of list) this.learn(fact);
    this.loaded = true;
  }

  /** What an event says about memberships; true when something changed. */
  learnEvent(event: RoomEvent): boolean {
    return event.member !== null && this.learn({ ...event.member, seq: event.seq });
  }

  has(user: string): boolean {
    const known = this.byUser.get(user);
    return known !== undefined && known.role !== 'none';
  }

  /** Owners first, then by name. */
  list(): readonly Member[] {
    return [...this.byUser.values()]
      .filter((member) => member.role !== 'none')
      .sort((a, b) => rank(a) - rank(b) || a.user.localeCompare(b.user));
  }

  clear(): void {
    this.byUser.clear();
    this.loaded = false;
  }
}

function rank(member: Member): number {
  return member.role === 'owner' ? 0 : 1;
}
