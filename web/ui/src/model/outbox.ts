/**
 * Messages that were written here and are not in the log yet, or not known to be.
 *
 * Pure: the socket, the clock and the storage belong to the caller. One message of a room is on its way at a time, and
 * the next leaves when the log has answered. So the order in which a person wrote is the order in the log, whatever
 * is refused or lost in between; for a person's typing the round trip does not matter. A message keeps its client id
 * over every retry, reload and connection: the log takes it once.
 *
 *   queued --sending()--> sending --receipted()--> sent --(its event is here)--> gone
 *     ^                      |  \--refused(for good)--> failed --retry()--> queued, at the end
 *     |                      |                             \--discard()--> gone
 *     +----disconnected()----+--refused(for now)--> waiting --resume()--> queued
 */

export type PendingState = 'queued' | 'sending' | 'waiting' | 'sent' | 'failed';

export interface Pending {
  readonly clientId: string;
  readonly room: string;
  readonly body: string;
  /** Milliseconds since 1970, this browser's clock: shown until the log's time is known. */
  readonly createdAt: number;
  /** Order among the messages of this browser. */
  readonly order: number;
  readonly state: PendingState;
  /** Why it failed, or why it waits. */
  readonly code: string | null;
  readonly attempts: number;
  /** Its number, once receipted. */
  readonly seq: number | null;
}

/** A message that was left behind this long ago is not sent on its own: its writer decides. */
export const STALE_AFTER_MS = 10 * 60_000;

/** So often `unavailable` is answered with a retry of our own; then the writer is asked. */
export const ATTEMPTS_MAX = 6;

/** Told of every change, so that what is pending survives a reload. */
export interface OutboxStore {
  save(message: Pending): void;
  remove(message: Pending): void;
}

export class Outbox {
  private readonly messages = new Map<string, Pending>();
  private nextOrder = 1;

  constructor(private readonly store: OutboxStore) {}

  /** Takes over what an earlier page left behind. Old ones wait for their writer. */
  restore(saved: readonly Pending[], nowMs: number): void {
    for (const message of [...saved].sort((a, b) => a.order - b.order)) {
      if (this.messages.has(message.clientId)) continue;
      if (message.state === 'sent') {
        this.store.remove(message);
        continue;
      }
      const stale = nowMs - message.createdAt > STALE_AFTER_MS;
      const state = message.state === 'failed' || stale ? 'failed' : 'queued';
      const code = state === 'failed' ? (message.code ?? 'left_behind') : null;
      this.messages.set(message.clientId, { ...message, state, code, seq: null });
      this.nextOrder = Math.max(this.nextOrder, message.order + 1);
    }
  }

  add(room: string, body: string, clientId: string, nowMs: number): Pending {
    const message: Pending = {
      clientId,
      room,
      body,
      createdAt: nowMs,
      order: this.takeOrder(nowMs),
      state: 'queued',
      code: null,
      attempts: 0,
      seq: null,
    };
    this.put(message);
    return message;
  }

  /** Messages of a room in the order in which they will be, or were, sent. */
  of(room: string): readonly Pending[] {
    return [...this.messages.values()].filter((message) => message.room === room).sort((a, b) => a.order - b.order);
  }

  get(clientId: string): Pending | undefined {
    return this.messages.get(clientId);
  }

  rooms(): ReadonlySet<string> {
    return new Set([...this.messages.values()].map((message) => message.room));
  }

  /** The message of that room that may leave now; null while one is on its way or waits. */
  next(room: string): Pending | null {
    for (const message of this.of(room)) {
      if (message.state === 'sending' || message.state === 'waiting') return null;
      if (message.state === 'queued') return message;
    }
    return null;
  }

  sending(clientId: string): void {
    this.change(clientId, ['queued'], (m) => ({ ...m, state: 'sending', attempts: m.attempts + 1 }));
  }

  /** The log has it. It stays until its event is here (`settle`), so that it never vanishes in between. */
  receipted(clientId: string, seq: number): void {
    this.change(clientId, ['queued', 'sending', 'waiting', 'failed'], (m) => ({ ...m, state: 'sent', code: null, seq }));
  }

  /**
   * The log refused it, or did not answer. `forNow`: a retry may succeed, and the answer says so by `waiting`; false
   * once that was tried often enough.
   */
  refused(clientId: string, code: string, forNow: boolean): 'waiting' | 'failed' | null {
    const message = this.messages.get(clientId);
    if (message === undefined || message.state !== 'sending') return null;
    const state = forNow && message.attempts < ATTEMPTS_MAX ? 'waiting' : 'failed';
    this.put({ ...message, state, code });
    return state;
  }

  /** The pause after `refused(for now)` is over. */
  resume(clientId: string): void {
    this.change(clientId, ['waiting'], (m) => ({ ...m, state: 'queued', code: null }));
  }

  /** The connection is gone: what was on its way may or may not have arrived, and will be sent again. */
  disconnected(): void {
    for (const message of this.messages.values()) {
      if (message.state === 'sending' || message.state === 'waiting') {
        // Losing the connection is no attempt: the person's network must not use up the message's patience.
        this.put({ ...message, state: 'queued', code: null, attempts: Math.max(0, message.attempts - 1) });
      }
    }
  }

  /**
   * The server ended the connection because of something that we sent. It was one of those on their way, and sent again
   * it would end the next connection too: their writer decides.
   */
  blame(code: string): void {
    for (const message of this.messages.values()) {
      if (message.state === 'sending') this.put({ ...message, state: 'failed', code });
    }
  }

  /** The writer wants it sent again: with the same client id, behind what was written since. */
  retry(clientId: string, nowMs: number): void {
    this.change(clientId, ['failed'], (m) => ({
      ...m,
      state: 'queued',
      code: null,
      attempts: 0,
      createdAt: nowMs,
      order: this.takeOrder(nowMs),
    }));
  }

  discard(clientId: string): void {
    const message = this.messages.get(clientId);
    if (message !== undefined && message.state !== 'sending') this.drop(message);
  }

  /** Another tab is done with it. */
  forget(clientId: string): void {
    const message = this.messages.get(clientId);
    if (message !== undefined) this.messages.delete(clientId);
  }

  /** The event of one of our messages is here: by its client id it is known whatever became of its RECEIPT. */
  settle(clientId: string): void {
    const message = this.messages.get(clientId);
    if (message !== undefined) this.drop(message);
  }

  /** Receipted messages whose number the page already holds are on the screen as events: they go. */
  settleUpTo(room: string, seq: number): void {
    for (const message of this.of(room)) {
      if (message.state === 'sent' && message.seq !== null && message.seq <= seq) this.drop(message);
    }
  }

  private change(clientId: string, from: readonly PendingState[], to: (message: Pending) => Pending): void {
    const message = this.messages.get(clientId);
    if (message !== undefined && from.includes(message.state)) this.put(to(message));
  }

  private put(message: Pending): void {
    this.messages.set(message.clientId, message);
    this.store.save(message);
  }

  private drop(message: Pending): void {
    this.messages.delete(message.clientId);
    this.store.remove(message);
  }

  private takeOrder(nowMs: number): number {
    // Time keeps two tabs of one person roughly in order; the counter keeps one tab exactly in order.
    this.nextOrder = Math.max(this.nextOrder + 1, nowMs);
    return this.nextOrder;
  }
}
