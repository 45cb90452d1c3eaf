/**
 * One person's chat: the rooms that are open here, what is pending, and the link that feeds both.
 *
 * The rules are in model/ (pure); this class carries them out: it turns what the link and the API say into calls of the
 * models, and what the models ask for into frames. Views read its fields and are told of changes (redraw.ts).
 */

import type { IMessage } from '@stomp/stompjs';

import { Directory } from './directory';
import { eventFromFrame, wholeNumber, type RoomEvent } from './model/events';
import type { Outbox } from './model/outbox';
import { PAGE, type Position } from './model/room-log';
import { Api, type RoomSummary } from './net/api';
import { FOR_NOW, Link, NO_ANSWER, type Answer, type LinkListener } from './net/link';
import { ReadMarks } from './net/storage';
import { Redraw } from './redraw';
import { Room } from './room';
import { Sender } from './sender';

/** Rooms that stay subscribed beside the open one, so that going back is instant and unread is exact. */
const WATCHED_MAX = 8;

const MEMBERS_SOON_MS = 1_500;

/** A page of history that does not reach up to what we hold is asked for again: the store follows the log closely. */
const OLDER_TRIES_MAX = 6;
const OLDER_PAUSE_MS = 400;

export class Chat implements LinkListener {
  readonly link: Link;
  readonly sender: Sender;
  readonly directory: Directory;
  readonly rooms = new Map<string, Room>();
  current: Room | null = null;
  /** For a screen reader: what came in last. */
  announcement: { readonly sender: string; readonly text: string; readonly count: number } | null = null;

  private readonly api: Api;
  private readonly marks: ReadMarks;
  private readonly redraw = new Redraw();
  private openings = 0;
  private announcedAt = 0;

  constructor(
    readonly user: string,
    url: string,
  ) {
    this.link = new Link(url, user, this);
    this.api = new Api(user);
    this.marks = new ReadMarks(user);
    this.sender = new Sender(user, this.link, (room) => this.rooms.get(room)?.log.hi ?? null, this.changed);
    this.directory = new Directory(this.api, this.changed);
  }

  get outbox(): Outbox {
    return this.sender.outbox;
  }

  start(): void {
    this.link.start();
    this.directory.refreshNow();
  }

  stop(): void {
    this.redraw.clear();
    this.directory.stop();
    this.sender.stop();
    for (const room of this.rooms.values()) clearTimeout(room.membersTimer);
    this.link.stop();
  }

  /** `listener` is called after changes, soon and not too often. */
  onChange(listener: () => void): () => void {
    return this.redraw.listen(listener);
  }

  // ---------------------------------------------------------------- what a person does

  /** Opens a room, by choice: who opens a room joins it. */
  open(id: string): Room {
    const room = this.rooms.get(id) ?? new Room(id);
    this.rooms.set(id, room);
    room.lastOpened = ++this.openings;
    room.readBefore = this.marks.get(id);
    if (room.join === 'no') room.join = 'wanted';
    this.current = room;
    this.forgetRoomsBeyond(WATCHED_MAX + 1);
    if (this.link.state.phase === 'up') {
      if (room.subscription === null) {
        this.subscribe(room);
      } else if (room.log.caughtUp) {
        this.joinIfWanted(room);
        this.refreshMembers(room, 0);
      }
    }
    this.changed();
    return room;
  }

  close(): void {
    this.current = null;
    this.changed();
  }

  post(room: Room, text: string): void {
    room.readBefore = null;
    this.sender.post(room.id, text);
  }

  create(id: string, name: string | null): Promise<Answer> {
    const body = JSON.stringify(name === null ? { room: id } : { room: id, name });
    return this.request('/rooms', body);
  }

  async leave(room: Room): Promise<Answer> {
    const answer = await this.request(`/room/${room.id}/leave`, '');
    if (answer.kind === 'ok') {
      this.forget(room);
      if (this.current === room) this.current = null;
      this.directory.refreshSoon();
      this.changed();
    }
    return answer;
  }

  /** Brings an older page, once at a time. */
  async loadOlder(room: Room): Promise<void> {
    if (room.older === 'loading' || !room.log.hasOlder) return;
    room.older = 'loading';
    this.changed();
    room.older = await this.fetchOlder(room);
    this.changed();
  }

  /** The reader sees the end of the room. */
  markRead(room: Room): void {
    const last = room.log.last;
    if (last !== undefined && room.log.caughtUp && this.marks.set(room.id, last.msgNo)) this.changed();
  }

  /** Messages of that room that this person has not seen; 0 for a room that was never opened here. */
  unread(room: RoomSummary): number {
    const mark = this.marks.get(room.room);
    return mark === null ? 0 : Math.max(0, room.msgNo - mark);
  }

  // ---------------------------------------------------------------- the link says

  linkUp(): void {
    const rooms = [...this.rooms.values()].sort((a, b) => b.lastOpened - a.lastOpened);
    for (const room of rooms) {
      if (room.older === 'failed') room.older = 'idle';
      this.subscribe(room);
    }
    this.sender.linkUp();
    this.directory.refreshNow();
  }

  linkDown(ourFault: boolean): void {
    this.sender.linkDown(ourFault);
    for (const room of this.rooms.values()) {
      room.subscription = null;
      room.turn += 1;
      room.log.disconnected();
      if (room.join === 'asked') room.join = 'wanted';
    }
  }

  linkChanged(): void {
    this.changed();
  }

  // ---------------------------------------------------------------- rooms

  private subscribe(room: Room): void {
    room.subscription?.unsubscribe();
    const turn = ++room.turn;
    const asked = room.log.position();
    room.log.disconnected();
    room.refusal = null;
    room.subscription = this.link.subscribe(
      `/room/${room.id}`,
      positionHeaders(asked),
      (message) => {
        if (turn === room.turn) this.onMessage(room, message);
      },
      (answer) => {
        if (turn === room.turn) this.onSubscribed(room, asked, answer);
      },
    );
  }

  private onSubscribed(room: Room, asked: Position, answer: Answer): void {
    switch (answer.kind) {
      case 'ok': {
        const head = wholeNumber(answer.headers['x-head-seq']) ?? 0;
        const first = wholeNumber(answer.headers['x-first-seq']) ?? 1;
        if (room.log.subscribed(asked, head, first) === 'restart') this.startOver(room);
        else this.settle(room);
        // Who may read, joins; the other way round, a room that does not exist would be refused twice.
        this.joinIfWanted(room);
        // A room that nobody has written to yet has no people to ask for.
        if (head > 0 && room === this.current) this.refreshMembers(room, 0);
        break;
      }
      case 'refused':
        // A server that said nothing may have it all the same.
        if (answer.code === NO_ANSWER) room.subscription?.unsubscribe();
        room.subscription = null;
        if (answer.code === 'epoch_changed') this.startOver(room);
        else if (FOR_NOW.has(answer.code)) this.later(room, 2_000, () => this.subscribe(room));
        else room.refusal = answer.code;
        break;
      case 'lost':
        break;
    }
    this.changed();
  }

  private onMessage(room: Room, message: IMessage): void {
    const event = eventFromFrame(message.headers, message.binaryBody);
    if (event === null) {
      // Not what the protocol promises. The next number will be a hole, and the room is read again.
      console.warn('roomlog: not an event', message.headers);
      return;
    }
    switch (room.log.receive(event)) {
      case 'taken':
        this.onEvent(room, event);
        break;
      case 'repeat':
        break;
      case 'hole':
        this.onHole(room);
        break;
      case 'epoch':
        this.startOver(room);
        break;
    }
    this.changed();
  }

  private onEvent(room: Room, event: RoomEvent): void {
    if (event.sender === this.user && event.clientId !== null) {
      this.sender.settle(room.id, event.clientId);
    }
    if (room.members.learnEvent(event)) this.refreshMembers(room, MEMBERS_SOON_MS);
    if (room.log.caughtUp) {
      this.announce(room, event);
      this.settle(room);
    }
    this.directory.refreshSoon();
  }

  /** The room is whole up to its head. */
  private settle(room: Room): void {
    if (!room.log.caughtUp) return;
    room.holes = 0;
    this.outbox.settleUpTo(room.id, room.log.hi);
  }

  /** A number is missing: nothing after it is shown; the server is asked for it, later and later if that does not help. */
  private onHole(room: Room): void {
    room.holes += 1;
    room.turn += 1;
    room.subscription?.unsubscribe();
    room.subscription = null;
    if (room.holes === 1) this.subscribe(room);
    else this.later(room, Math.min(30_000, 500 * 2 ** room.holes), () => this.startOver(room));
  }

  /** Another log, or too long a gap: the room is opened anew at its end. */
  private startOver(room: Room): void {
    room.log.restart();
    // What was receipted is in the log: it comes back as an event, or the room no longer shows that far.
    this.outbox.settleUpTo(room.id, Number.POSITIVE_INFINITY);
    room.members.clear();
    room.older = 'idle';
    if (this.link.state.phase === 'up') this.subscribe(room);
  }

  private later(room: Room, delayMs: number, then: () => void): void {
    const turn = room.turn;
    setTimeout(() => {
      if (turn === room.turn && this.link.state.phase === 'up' && this.rooms.get(room.id) === room) then();
    }, delayMs);
  }

  private joinIfWanted(room: Room): void {
    if (room.join !== 'wanted') return;
    room.join = 'asked';
    this.link.send(`/room/${room.id}/join`, {}, '', (answer) => {
      // A refusal changes nothing for a reader; whether posting is allowed, posting will say.
      room.join = answer.kind === 'lost' ? 'wanted' : 'done';
    });
  }

  private forgetRoomsBeyond(count: number): void {
    const rooms = [...this.rooms.values()].sort((a, b) => b.lastOpened - a.lastOpened);
    for (const room of rooms.slice(count)) this.forget(room);
  }

  private forget(room: Room): void {
    room.turn += 1;
    room.subscription?.unsubscribe();
    clearTimeout(room.membersTimer);
    this.rooms.delete(room.id);
  }

  private async fetchOlder(room: Room): Promise<Room['older']> {
    for (let attempt = 1; attempt <= OLDER_TRIES_MAX; attempt += 1) {
      if (!room.log.hasOlder) return 'idle';
      try {
        const page = await this.api.before(room.id, room.log.lo, PAGE);
        switch (room.log.prepend(page.events, page.epoch, page.firstSeq)) {
          case 'taken':
            return 'idle';
          case 'epoch':
            this.startOver(room);
            return 'idle';
          case 'hole':
            break;
        }
      } catch {
        return 'failed';
      }
      await new Promise((resolve) => setTimeout(resolve, OLDER_PAUSE_MS * attempt));
    }
    return 'failed';
  }

  private request(destination: string, body: string): Promise<Answer> {
    return new Promise((resolve) => {
      if (this.link.state.phase !== 'up') resolve({ kind: 'lost' });
      else this.link.send(destination, body === '' ? {} : { 'content-type': 'application/json' }, body, resolve);
    });
  }

  // ---------------------------------------------------------------- lists that follow

  /** Every room we know of: the list, and on top of it what the open rooms know better. Latest first. */
  roomList(): readonly RoomSummary[] {
    const known = new Map(this.directory.rooms.map((room) => [room.room, room]));
    for (const room of this.rooms.values()) {
      const listed = known.get(room.id);
      const last = room.log.last;
      if (listed === undefined && last === undefined && room !== this.current) continue;
      known.set(room.id, {
        room: room.id,
        name: listed?.name ?? null,
        members: room.members.loaded ? room.members.list().length : (listed?.members ?? 0),
        headSeq: last?.seq ?? listed?.headSeq ?? 0,
        msgNo: last?.msgNo ?? listed?.msgNo ?? 0,
        lastAt: last?.at ?? listed?.lastAt ?? null,
      });
    }
    return [...known.values()].sort(
      (a, b) => (b.lastAt ?? 0) - (a.lastAt ?? 0) || a.room.localeCompare(b.room),
    );
  }

  private refreshMembers(room: Room, delayMs: number): void {
    clearTimeout(room.membersTimer);
    room.membersTimer = setTimeout(async () => {
      try {
        room.members.learnList(await this.api.members(room.id));
      } catch {
        // The store is away or a moment behind the log; the next membership event asks again.
      }
      this.changed();
    }, delayMs);
  }

  private readonly changed = (): void => this.redraw.ask();

  private announce(room: Room, event: RoomEvent): void {
    if (room !== this.current || event.kind !== 'message' || event.sender === this.user) return;
    const together = Date.now() - this.announcedAt < 1_000 && this.announcement !== null;
    const count = together ? this.announcement!.count + 1 : 1;
    this.announcement = { sender: event.sender, text: (event.body ?? '').slice(0, 300), count };
    this.announcedAt = Date.now();
  }
}

function positionHeaders(position: Position): Record<string, string> {
  return position.kind === 'last'
    ? { 'x-last': String(position.count) }
    : { 'x-after-seq': String(position.seq), 'x-epoch': position.epoch };
}
