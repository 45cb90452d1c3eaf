/**
 * What the page keeps in the browser: the name, the switches, how far a person read, and what is not sent yet.
 *
 * Storage may be forbidden or full: then the page works, and forgets. One key a pending message, so that two tabs of
 * one person never write over each other.
 */

import type { OutboxStore, Pending } from '../model/outbox';

const PREFIX = 'roomlog.';

/** Rooms whose read position is kept; the ones read longest ago go first. */
const READ_ROOMS_MAX = 500;

export function load(key: string): string | null {
  try {
    return localStorage.getItem(PREFIX + key);
  } catch {
    return null;
  }
}

export function save(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(PREFIX + key);
    else localStorage.setItem(PREFIX + key, value);
  } catch {
    // Forbidden or full: see above.
  }
}

export function saveJson(key: string, value: unknown): void {
  save(key, JSON.stringify(value));
}

export function loadJson(key: string): unknown {
  const text = load(key);
  if (text === null) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Pending messages of one person. */
export class SavedOutbox implements OutboxStore {
  private readonly prefix: string;

  constructor(user: string) {
    this.prefix = `outbox.${user}/`;
  }

  save(message: Pending): void {
    saveJson(this.prefix + message.clientId, message);
  }

  remove(message: Pending): void {
    save(this.prefix + message.clientId, null);
  }

  all(): readonly Pending[] {
    const found: Pending[] = [];
    try {
      for (let index = 0; index < localStorage.length; index += 1) {
        const key = localStorage.key(index);
        if (key === null || !key.startsWith(PREFIX + this.prefix)) continue;
        const message = loadJson(key.slice(PREFIX.length));
        if (isPending(message)) found.push(message);
      }
    } catch {
      // Forbidden: nothing was kept.
    }
    return found;
  }

  /** The client id of a message that another tab removed, from a `storage` event; null for any other change. */
  removedElsewhere(event: StorageEvent): string | null {
    if (event.key === null || event.newValue !== null || !event.key.startsWith(PREFIX + this.prefix)) return null;
    return event.key.slice((PREFIX + this.prefix).length);
  }
}

function isPending(value: unknown): value is Pending {
  if (typeof value !== 'object' || value === null) return false;
  const { clientId, room, body, createdAt, order, state } = value as Record<string, unknown>;
  return (
    typeof clientId === 'string' &&
    typeof room === 'string' &&
    typeof body === 'string' &&
    typeof createdAt === 'number' &&
    typeof order === 'number' &&
    typeof state === 'string'
  );
}

/** How far one person read each room: the number of the last message seen. */
export class ReadMarks {
  private readonly marks: Map<string, number>;
  private readonly key: string;

  constructor(user: string) {
    this.key = `read.${user}`;
    const saved = loadJson(this.key);
    const entries = Array.isArray(saved) ? (saved as unknown[]) : [];
    this.marks = new Map(
      entries.filter(
        (entry): entry is [string, number] =>
          Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'number',
      ),
    );
  }

  get(room: string): number | null {
    return this.marks.get(room) ?? null;
  }

  /** True when that is news. A mark may go down: a room whose log began anew counts from 1 again. */
  set(room: string, msgNo: number): boolean {
    if (this.marks.get(room) === msgNo) return false;
    this.marks.delete(room);
    this.marks.set(room, msgNo);
    for (const oldest of this.marks.keys()) {
      if (this.marks.size <= READ_ROOMS_MAX) break;
      this.marks.delete(oldest);
    }
    saveJson(this.key, [...this.marks]);
    return true;
  }
}
