/** Tells the views that something changed: soon, once for many changes, and not too often. */

/** A flood of messages is drawn this often: nobody reads faster, and every drawing lays the rows out anew. */
const REDRAW_MS = 80;

/** Views hear of changes in an animation frame, and this late where there are none. */
const HIDDEN_FRAME_MS = 250;

export class Redraw {
  private readonly listeners = new Set<() => void>();
  private due = false;
  private lastAt = 0;

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  clear(): void {
    this.listeners.clear();
  }

  ask(): void {
    if (this.due) return;
    this.due = true;
    const pauseMs = this.lastAt + REDRAW_MS - performance.now();
    if (pauseMs <= 0) this.soon();
    else setTimeout(() => this.soon(), pauseMs);
  }

  private soon(): void {
    // A hidden page gets no animation frames, and its title still counts what is unread.
    requestAnimationFrame(() => this.notify());
    setTimeout(() => this.notify(), HIDDEN_FRAME_MS);
  }

  private notify(): void {
    if (!this.due) return;
    this.due = false;
    this.lastAt = performance.now();
    for (const listener of [...this.listeners]) listener();
  }
}
