/**
 * The messages of a room, in order, windowed.
 *
 * The document holds at most a few hundred rows around the reader (model/viewport.ts). Whatever comes in or goes at
 * either end, the row that the reader looks at stays where it is: before a change its place is remembered (`anchor`),
 * after it the scroll position is set so that it stands there again. At the end of the room the view follows instead.
 */

import type { VNode } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

import type { Chat } from '../chat';
import type { Room } from '../room';
import type { RoomEvent } from '../model/events';
import { AT_END, hold, newer, older, rowsOf, type Viewport } from '../model/viewport';
import { dayOf } from '../text/time';
import { useSpeech } from './context';
import { Icon } from './icons';
import { EventRow, PendingRow } from './message-row';

/** Rows are brought in this far ahead of the reader. */
const AHEAD_PX = 700;
const END_PX = 48;
/** Messages of one person that follow this closely stand under one name. */
const TOGETHER_MS = 5 * 60_000;

interface Anchor {
  readonly row: Element;
  readonly top: number;
}

interface Props {
  readonly chat: Chat;
  readonly room: Room;
  readonly title: string;
}

export function Timeline({ chat, room, title }: Props) {
  const speech = useSpeech();
  const { text, clock } = speech;
  const { log } = room;
  const scroller = useRef<HTMLDivElement>(null);
  const anchor = useRef<Anchor | null>(null);
  const following = useRef(true);
  /** Number of the last message when the reader left the end. */
  const [leftAt, setLeftAt] = useState<number | null>(null);
  const [view, setView] = useState<Viewport>(AT_END);

  const { from, to } = rowsOf(view, log.lo, log.hi);
  const pending = chat.outbox.of(room.id);
  const atHead = to >= log.hi;

  const remember = (): void => {
    const box = scroller.current!;
    const top = box.getBoundingClientRect().top;
    anchor.current = null;
    for (const row of box.querySelectorAll('.row')) {
      const place = row.getBoundingClientRect();
      if (place.bottom > top) {
        anchor.current = { row, top: place.top - top };
        return;
      }
    }
  };

  const place = (): void => {
    const box = scroller.current;
    // A size may be reported while the room is already being left.
    if (box === null) return;
    if (following.current) {
      box.scrollTop = box.scrollHeight;
    } else if (anchor.current !== null && anchor.current.row.isConnected) {
      const moved = anchor.current.row.getBoundingClientRect().top - box.getBoundingClientRect().top;
      if (Math.abs(moved - anchor.current.top) >= 1) box.scrollTop += moved - anchor.current.top;
    }
    remember();
  };

  /** Brings in rows, or history, before the reader gets there. */
  const fill = (): void => {
    const box = scroller.current!;
    if (log.events.length === 0) return;
    if (box.scrollTop < AHEAD_PX) {
      if (from > log.lo) setView(older(view, log.lo, log.hi));
      else if (room.older === 'idle' && log.hasOlder && log.caughtUp) void chat.loadOlder(room);
    }
    if (box.scrollHeight - box.clientHeight - box.scrollTop < AHEAD_PX && to < log.hi) {
      setView(newer(view, log.lo, log.hi));
    }
  };

  const seen = (): void => {
    if (following.current && document.visibilityState === 'visible') chat.markRead(room);
  };

  const onScroll = (): void => {
    const box = scroller.current!;
    const atEnd = atHead && box.scrollHeight - box.clientHeight - box.scrollTop < END_PX;
    if (atEnd && !following.current) {
      following.current = true;
      setLeftAt(null);
      setView({ top: from, bottom: null });
      seen();
    } else if (!atEnd && following.current) {
      following.current = false;
      setLeftAt(log.last?.msgNo ?? 0);
      setView(hold(view, log.lo, log.hi));
    }
    remember();
    fill();
  };

  const toEnd = (): void => {
    following.current = true;
    setLeftAt(null);
    setView(AT_END);
  };

  useLayoutEffect(() => {
    place();
    fill();
    seen();
    if (following.current && log.trim()) setView(AT_END);
  });

  // The room was begun anew: what we looked at is gone.
  useLayoutEffect(toEnd, [log.generation]);

  // Who writes wants to see it.
  const lastPending = pending[pending.length - 1]?.clientId;
  useLayoutEffect(() => {
    if (lastPending !== undefined) toEnd();
  }, [lastPending]);

  useEffect(() => {
    const box = scroller.current!;
    const watch = new ResizeObserver(() => place());
    watch.observe(box);
    watch.observe(box.firstElementChild!);
    const onEscape = (event: KeyboardEvent): void => {
      if (event.key === 'Escape' && !event.defaultPrevented && !event.isComposing) toEnd();
    };
    document.addEventListener('visibilitychange', seen);
    document.addEventListener('keydown', onEscape);
    return () => {
      watch.disconnect();
      document.removeEventListener('visibilitychange', seen);
      document.removeEventListener('keydown', onEscape);
    };
  }, []);

  // ---------------------------------------------------------------- rows

  const rows: VNode[] = [];
  const now = Date.now();
  let above: RoomEvent | null = log.slice(from - 1, from - 1)[0] ?? null;
  let lineDrawn = false;
  for (const event of log.slice(from, to)) {
    if (above === null || dayOf(above.at) !== dayOf(event.at)) {
      rows.push(
        <li key={`day-${event.seq}`} class="day" role="separator">
          <span>{clock.day(event.at, now)}</span>
        </li>,
      );
      above = null;
    }
    const isNew = room.readBefore !== null && event.msgNo > room.readBefore && event.kind === 'message';
    if (isNew && !lineDrawn) {
      lineDrawn = true;
      const first = above === null || above.msgNo <= room.readBefore!;
      if (first && event.sender !== chat.user) {
        rows.push(
          <li key="new-line" class="new-line" role="separator">
            <span>{text.newLine}</span>
          </li>,
        );
        above = null;
      }
    }
    rows.push(
      <EventRow
        key={event.seq}
        event={event}
        mine={event.sender === chat.user}
        joined={follows(above, event)}
        speech={speech}
      />,
    );
    above = event;
  }
  if (atHead) {
    let joined = above !== null && above.kind === 'message' && above.sender === chat.user && now - above.at < TOGETHER_MS;
    for (const message of pending) {
      rows.push(<PendingRow key={message.clientId} chat={chat} message={message} joined={joined} />);
      joined = true;
    }
  }

  const loading = !log.caughtUp && log.events.length === 0 && room.refusal === null;
  const newCount = leftAt === null ? 0 : Math.max(0, (log.last?.msgNo ?? 0) - leftAt);

  return (
    <div class="timeline">
      <div
        class="scroller"
        ref={scroller}
        onScroll={onScroll}
        tabIndex={0}
        role="region"
        aria-label={text.messages}
        id="messages"
      >
        <div class="content">
          {from === log.lo && log.events.length > 0 && (
            <Beginning room={room} title={title} onRetry={() => void retryOlder(chat, room)} />
          )}
          <ol class="rows" aria-busy={loading}>
            {rows}
          </ol>
          {loading && chat.link.state.phase === 'up' && (
            <p class="empty quiet">
              <span class="spinner" aria-hidden="true" /> {text.loadingMessages}
            </p>
          )}
          {log.caughtUp && log.events.length === 0 && pending.length === 0 && (
            <div class="empty">
              <p>{text.emptyRoom}</p>
              <p class="quiet">{text.emptyRoomHint}</p>
            </div>
          )}
        </div>
      </div>
      {leftAt !== null && (
        <button type="button" class={newCount > 0 ? 'jump news' : 'jump'} onClick={toEnd}>
          <Icon name="down" />
          {newCount > 0 ? text.jumpNew(newCount) : text.jumpLatest}
        </button>
      )}
    </div>
  );
}

/** What stands above the first message that we hold. */
function Beginning({ room, title, onRetry }: { room: Room; title: string; onRetry: () => void }) {
  const { text } = useSpeech();
  if (room.older === 'failed') {
    return (
      <p class="history">
        {text.olderFailed}{' '}
        <button type="button" class="small" onClick={onRetry}>
          {text.retry}
        </button>
      </p>
    );
  }
  if (room.log.hasOlder) {
    return (
      <p class="history quiet">
        <span class="spinner" aria-hidden="true" /> {text.loadingOlder}
      </p>
    );
  }
  return <p class="history quiet">{room.log.lo === 1 ? text.beginning(title) : text.olderGone}</p>;
}

function retryOlder(chat: Chat, room: Room): Promise<void> {
  room.older = 'idle';
  return chat.loadOlder(room);
}

function follows(above: RoomEvent | null, event: RoomEvent): boolean {
  return (
    above !== null &&
    above.kind === 'message' &&
    event.kind === 'message' &&
    above.sender === event.sender &&
    event.at - above.at < TOGETHER_MS
  );
}
