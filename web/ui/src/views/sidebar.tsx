/** The rooms: find one, open one, make one; and who you are. */

import { useRef, useState } from 'preact/hooks';

import type { Chat } from '../chat';
import { hashOfRoom, isRoomId } from '../model/ids';
import { useSpeech } from './context';
import { Avatar, Icon, Mark } from './icons';

interface Props {
  readonly chat: Chat;
  readonly onOpen: () => void;
  readonly onNewRoom: () => void;
  readonly onSettings: () => void;
}

export function Sidebar({ chat, onOpen, onNewRoom, onSettings }: Props) {
  const { text, clock } = useSpeech();
  const [filter, setFilter] = useState('');
  const list = useRef<HTMLUListElement>(null);
  const search = useRef<HTMLInputElement>(null);
  const wanted = filter.trim().toLowerCase();
  const all = chat.roomList();
  const shown = all.filter(
    (room) => room.room.toLowerCase().includes(wanted) || (room.name ?? '').toLowerCase().includes(wanted),
  );
  const typed = filter.trim();
  const canOpenTyped = isRoomId(typed) && !all.some((room) => room.room === typed);
  const now = Date.now();

  const moveFocus = (event: KeyboardEvent, step: number): void => {
    const links = [...(list.current?.querySelectorAll('a') ?? [])];
    const index = links.indexOf(document.activeElement as HTMLAnchorElement);
    const target = index + step < 0 && index >= 0 ? search.current : links[Math.min(index + step, links.length - 1)];
    if (target === undefined || target === null) return;
    event.preventDefault();
    target.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.isComposing) return;
    if (event.key === 'ArrowDown') moveFocus(event, 1);
    else if (event.key === 'ArrowUp' && event.target !== search.current) moveFocus(event, -1);
    else if (event.key === 'Enter' && event.target === search.current && typed !== '') {
      const first = list.current?.querySelector('a');
      if (first) first.click();
    } else if (event.key === 'Escape' && filter !== '') {
      event.stopPropagation();
      setFilter('');
    }
  };
  const opened = (): void => {
    setFilter('');
    onOpen();
  };

  return (
    <div class="sidebar" onKeyDown={onKeyDown}>
      <header class="sidebar-head">
        <div class="brand">
          <Mark />
          <span>{text.appName}</span>
        </div>
        <button type="button" class="round" title={text.newRoom} aria-label={text.newRoom} onClick={onNewRoom}>
          <Icon name="plus" />
        </button>
      </header>
      <div class="search">
        <Icon name="search" />
        <input
          id="room-filter"
          ref={search}
          type="search"
          value={filter}
          placeholder={text.filterRooms}
          aria-label={text.filterRooms}
          autoComplete="off"
          autoCapitalize="none"
          spellcheck={false}
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
      </div>
      <nav class="rooms" aria-label={text.rooms}>
        <ul ref={list}>
          {shown.map((room) => {
            const unread = chat.unread(room);
            const current = chat.current?.id === room.room;
            return (
              <li key={room.room}>
                <a
                  href={hashOfRoom(room.room)}
                  class={unread > 0 && !current ? 'room unread' : 'room'}
                  aria-current={current ? 'page' : undefined}
                  data-room={room.room}
                  onClick={opened}
                >
                  <span class="room-name">{room.name ?? room.room}</span>
                  {room.lastAt !== null && <span class="room-time">{clock.brief(room.lastAt, now)}</span>}
                  {unread > 0 && !current && (
                    <span class="badge" aria-label={text.unread(unread)}>
                      {unread > 99 ? '99+' : unread}
                    </span>
                  )}
                </a>
              </li>
            );
          })}
          {canOpenTyped && (
            <li key="?typed">
              <a href={hashOfRoom(typed)} class="room typed" onClick={opened}>
                <span class="room-name">{text.openRoomNamed(typed)}</span>
              </a>
            </li>
          )}
        </ul>
        {shown.length === 0 && !canOpenTyped && chat.directory.state !== 'loading' && (
          <p class="quiet note">
            {wanted !== '' ? text.noRoomMatches : chat.directory.state === 'failed' ? text.roomsUnavailable : text.noRooms}
          </p>
        )}
      </nav>
      <footer class="me">
        <Avatar user={chat.user} />
        <span class="me-name" title={chat.user}>
          {chat.user}
        </span>
        <span class={`dot ${chat.link.state.phase}`} aria-hidden="true" />
        <button type="button" class="round" title={text.settings} aria-label={text.settings} onClick={onSettings}>
          <Icon name="settings" />
        </button>
      </footer>
    </div>
  );
}
