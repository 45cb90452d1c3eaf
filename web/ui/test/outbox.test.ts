import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { ATTEMPTS_MAX, Outbox, STALE_AFTER_MS, type OutboxStore, type Pending } from '../src/model/outbox';

class Kept implements OutboxStore {
  readonly messages = new Map<string, Pending>();
  save(message: Pending): void {
    this.messages.set(message.clientId, message);
  }
  remove(message: Pending): void {
    this.messages.delete(message.clientId);
  }
}

/** The room's log: takes a client id once, whatever the network does with the answer. */
class ServerLog {
  readonly taken: string[] = [];
  post(clientId: string): number {
    const known = this.taken.indexOf(clientId);
    if (known !== -1) return known + 1;
    this.taken.push(clientId);
    return this.taken.length;
  }
}

describe('the outbox', () => {
  test('brings every message into the log once, in the order of writing, over lost connections and reloads', () => {
    const fate = fc.constantFrom('answered', 'arrived_unanswered', 'lost', 'unavailable', 'reload', 'write');
    fc.assert(
      fc.property(fc.array(fate, { maxLength: 80 }), (fates) => {
        const store = new Kept();
        const log = new ServerLog();
        let outbox = new Outbox(store);
        const written: string[] = [];
        let now = 1_000;
        const write = (): void => {
          now += 1;
          const clientId = `c${written.length}`;
          written.push(clientId);
          outbox.add('room', `text ${clientId}`, clientId, now);
        };
        write();
        for (const one of fates) {
          if (one === 'write') {
            write();
            continue;
          }
          if (one === 'reload') {
            outbox = new Outbox(store);
            outbox.restore([...store.messages.values()], now);
            continue;
          }
          const message = outbox.next('room');
          if (message === null) {
            // Something waits for its pause to end.
            for (const waiting of outbox.of('room')) outbox.resume(waiting.clientId);
            continue;
          }
          outbox.sending(message.clientId);
          expect(outbox.next('room')).toBeNull();
          if (one === 'answered') {
            outbox.receipted(message.clientId, log.post(message.clientId));
            outbox.settle(message.clientId);
          } else if (one === 'arrived_unanswered') {
            log.post(message.clientId);
            outbox.disconnected();
          } else if (one === 'lost') {
            outbox.disconnected();
          } else {
            // Whether it arrived is not known; after many tries the writer is asked, who says: again.
            if (outbox.refused(message.clientId, 'unavailable', true) === 'failed') outbox.discard(message.clientId);
          }
        }
        outbox.disconnected();
        for (let message = outbox.next('room'); message !== null; message = outbox.next('room')) {
          outbox.sending(message.clientId);
          outbox.receipted(message.clientId, log.post(message.clientId));
          outbox.settle(message.clientId);
        }
        expect(new Set(log.taken).size).toBe(log.taken.length);
        expect(log.taken).toEqual(written.filter((clientId) => log.taken.includes(clientId)));
        expect(store.messages.size).toBe(0);
        expect(outbox.of('room')).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  test('one refused for good does not hold up what was written after it', () => {
    const outbox = new Outbox(new Kept());
    outbox.add('room', 'a', 'a', 1);
    outbox.add('room', 'b', 'b', 2);
    outbox.sending('a');
    expect(outbox.refused('a', 'forbidden', false)).toBe('failed');
    expect(outbox.next('room')?.clientId).toBe('b');
    outbox.retry('a', 3);
    expect(outbox.of('room').map((m) => m.clientId)).toEqual(['b', 'a']);
    expect(outbox.get('a')?.state).toBe('queued');
  });

  test('a message that ended the connection is not sent again by itself', () => {
    const outbox = new Outbox(new Kept());
    outbox.add('room', 'poison', 'a', 1);
    outbox.add('room', 'well', 'b', 2);
    outbox.sending('a');
    outbox.blame('bad_body');
    outbox.disconnected();
    expect(outbox.get('a')?.state).toBe('failed');
    expect(outbox.next('room')?.clientId).toBe('b');
  });

  test('rooms do not wait for each other', () => {
    const outbox = new Outbox(new Kept());
    outbox.add('one', 'a', 'a', 1);
    outbox.add('two', 'b', 'b', 2);
    outbox.sending('a');
    expect(outbox.next('one')).toBeNull();
    expect(outbox.next('two')?.clientId).toBe('b');
  });

  test('asks the writer after enough tries, and a lost connection is not one of them', () => {
    const outbox = new Outbox(new Kept());
    outbox.add('room', 'a', 'a', 1);
    for (let cut = 0; cut < 50; cut += 1) {
      outbox.sending('a');
      outbox.disconnected();
    }
    for (let attempt = 1; attempt < ATTEMPTS_MAX; attempt += 1) {
      outbox.sending('a');
      expect(outbox.refused('a', 'unavailable', true)).toBe('waiting');
      outbox.resume('a');
    }
    outbox.sending('a');
    expect(outbox.refused('a', 'unavailable', true)).toBe('failed');
  });

  test('a receipted message stays until its event is here', () => {
    const outbox = new Outbox(new Kept());
    outbox.add('room', 'a', 'a', 1);
    outbox.sending('a');
    outbox.receipted('a', 12);
    outbox.settleUpTo('room', 11);
    expect(outbox.get('a')).toMatchObject({ state: 'sent', seq: 12 });
    outbox.settleUpTo('room', 12);
    expect(outbox.get('a')).toBeUndefined();
  });

  test('what an earlier page left long ago waits for its writer', () => {
    const store = new Kept();
    const earlier = new Outbox(store);
    earlier.add('room', 'old', 'old', 1_000);
    earlier.add('room', 'new', 'new', STALE_AFTER_MS + 500);
    const outbox = new Outbox(store);
    outbox.restore([...store.messages.values()], STALE_AFTER_MS + 1_001);
    expect(outbox.get('old')).toMatchObject({ state: 'failed', code: 'left_behind' });
    expect(outbox.next('room')?.clientId).toBe('new');
  });

  test('what another tab settled is not sent here', () => {
    const outbox = new Outbox(new Kept());
    outbox.add('room', 'a', 'a', 1);
    outbox.forget('a');
    expect(outbox.next('room')).toBeNull();
  });
});
