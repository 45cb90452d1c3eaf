/** The room list, read again slowly all the time and sooner after something happened. */

import type { Api, RoomSummary } from './net/api';

const POLL_MS = 15_000;
const POLL_HIDDEN_MS = 60_000;

/** How soon after an event: long enough for the store behind the list to have heard of it too. */
const SOON_MS = 1_500;

export class Directory {
  rooms: readonly RoomSummary[] = [];
  state: 'loading' | 'ready' | 'failed' = 'loading';

  private timer: ReturnType<typeof setTimeout> | undefined;
  private dueAt = 0;
  private stopped = false;

  constructor(
    private readonly api: Api,
    private readonly changed: () => void,
  ) {}

  refreshNow(): void {
    this.refreshIn(0);
  }

  refreshSoon(): void {
    this.refreshIn(SOON_MS);
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  /** Reads after `delayMs`, or sooner when that is due already. */
  private refreshIn(delayMs: number): void {
    const due = Date.now() + delayMs;
    if (this.stopped || (this.timer !== undefined && this.dueAt <= due)) return;
    clearTimeout(this.timer);
    this.dueAt = due;
    this.timer = setTimeout(() => void this.read(), delayMs);
  }

  private async read(): Promise<void> {
    this.timer = undefined;
    try {
      this.rooms = await this.api.rooms();
      this.state = 'ready';
    } catch {
      // The list of a moment ago is better than none.
      if (this.state === 'loading') this.state = 'failed';
    }
    this.refreshIn(document.visibilityState === 'visible' ? POLL_MS : POLL_HIDDEN_MS);
    this.changed();
  }
}
