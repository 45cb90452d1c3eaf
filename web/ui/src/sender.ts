/** Carries the outbox to the log: sends what may leave, hears the answers, and keeps it all over a reload. */

import { resendDelayMs } from './model/backoff';
import { wholeNumber } from './model/events';
import { newClientId } from './model/ids';
import { Outbox, type Pending } from './model/outbox';
import { FOR_NOW, type Answer, type Link } from './net/link';
import { SavedOutbox } from './net/storage';

export class Sender {
  readonly outbox: Outbox;
  private readonly saved: SavedOutbox;

  /** `shownUpTo` says up to which number the page holds a room; null for a room that it does not hold. */
  constructor(
    user: string,
    private readonly link: Link,
    private readonly shownUpTo: (room: string) => number | null,
    private readonly changed: () => void,
  ) {
    this.saved = new SavedOutbox(user);
    this.outbox = new Outbox(this.saved);
    this.outbox.restore(this.saved.all(), Date.now());
    window.addEventListener('storage', this.onStorage);
  }

  stop(): void {
    window.removeEventListener('storage', this.onStorage);
  }

  post(room: string, text: string): void {
    this.outbox.add(room, text, newClientId(), Date.now());
    this.pump(room);
  }

  retry(message: Pending): void {
    this.outbox.retry(message.clientId, Date.now());
    this.pump(message.room);
  }

  discard(message: Pending): void {
    this.outbox.discard(message.clientId);
    this.pump(message.room);
  }

  /** A connection is there: every room's first message leaves. */
  linkUp(): void {
    for (const room of this.outbox.rooms()) this.pump(room);
  }

  linkDown(ourFault: boolean): void {
    if (ourFault) this.outbox.blame('bad_body');
    this.outbox.disconnected();
  }

  /** The event of one of our messages is here. */
  settle(room: string, clientId: string): void {
    this.outbox.settle(clientId);
    this.pump(room);
  }

  /** Sends what may leave for that room. */
  private pump(room: string): void {
    this.changed();
    if (this.link.state.phase !== 'up') return;
    const message = this.outbox.next(room);
    if (message === null) return;
    this.outbox.sending(message.clientId);
    this.link.send(
      `/room/${room}`,
      { 'content-type': 'text/plain;charset=utf-8', 'x-client-id': message.clientId },
      message.body,
      (answer) => this.onAnswer(message, answer),
    );
  }

  private onAnswer(message: Pending, answer: Answer): void {
    switch (answer.kind) {
      case 'ok':
        this.onReceipt(message, wholeNumber(answer.headers['x-seq']));
        break;
      case 'refused':
        if (this.outbox.refused(message.clientId, answer.code, FOR_NOW.has(answer.code)) === 'waiting') {
          this.resendLater(message);
        }
        break;
      case 'lost':
        // `linkDown` follows, for all of them together.
        return;
    }
    this.pump(message.room);
  }

  private onReceipt(message: Pending, seq: number | null): void {
    const shown = this.shownUpTo(message.room);
    if (seq === null || shown === null) {
      this.outbox.settle(message.clientId);
    } else {
      this.outbox.receipted(message.clientId, seq);
      this.outbox.settleUpTo(message.room, shown);
    }
  }

  private resendLater(message: Pending): void {
    const attempts = this.outbox.get(message.clientId)?.attempts ?? 1;
    setTimeout(
      () => {
        this.outbox.resume(message.clientId);
        this.pump(message.room);
      },
      resendDelayMs(attempts, Math.random()),
    );
  }

  private readonly onStorage = (event: StorageEvent): void => {
    const clientId = this.saved.removedElsewhere(event);
    const message = clientId === null ? undefined : this.outbox.get(clientId);
    if (message === undefined) return;
    this.outbox.forget(message.clientId);
    this.pump(message.room);
  };
}
