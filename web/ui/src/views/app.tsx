/** The whole page: who you are, which room the address names, and what lies open beside it. */

import { useEffect, useLayoutEffect, useMemo, useReducer, useState } from 'preact/hooks';

import { Chat } from '../chat';
import { hashOfRoom, isUserId, roomFromHash } from '../model/ids';
import { load, save } from '../net/storage';
import { isLanguage, preferredLanguage, type Language } from '../text/catalogue';
import { Banner } from './banner';
import { speech, SpeechContext, useSpeech } from './context';
import { Icon } from './icons';
import { NamePage } from './name-page';
import { NewRoom } from './new-room';
import { People } from './people';
import { RoomView } from './room-view';
import { Settings, THEMES, type Theme } from './settings';
import { Sidebar } from './sidebar';

function socketUrl(): string {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`;
}

function savedLanguage(): Language {
  const saved = load('language');
  return saved !== null && isLanguage(saved) ? saved : preferredLanguage(navigator.languages);
}

function savedTheme(): Theme {
  return THEMES.find((theme) => theme === load('theme')) ?? 'system';
}

function applyTheme(theme: Theme): void {
  if (theme === 'system') delete document.documentElement.dataset['theme'];
  else document.documentElement.dataset['theme'] = theme;
}

function savedUser(): string | null {
  const saved = load('user');
  return saved !== null && isUserId(saved) ? saved : null;
}

export function App() {
  const [language, setLanguage] = useState(savedLanguage);
  const [theme, setTheme] = useState(savedTheme);
  const [user, setUser] = useState(savedUser);
  const spoken = useMemo(() => speech(language), [language]);

  useLayoutEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  useLayoutEffect(() => applyTheme(theme), [theme]);

  const chooseLanguage = (next: Language): void => {
    save('language', next);
    setLanguage(next);
  };
  const chooseTheme = (next: Theme): void => {
    save('theme', next === 'system' ? null : next);
    setTheme(next);
  };
  const chooseUser = (next: string | null): void => {
    if (next !== null) save('user', next);
    setUser(next);
  };

  return (
    <SpeechContext.Provider value={spoken}>
      {user === null ? (
        <NamePage initial={load('user') ?? ''} onName={chooseUser} onLanguage={chooseLanguage} />
      ) : (
        <Desk
          key={user}
          user={user}
          theme={theme}
          onTheme={chooseTheme}
          onLanguage={chooseLanguage}
          onChangeName={() => chooseUser(null)}
        />
      )}
    </SpeechContext.Provider>
  );
}

interface DeskProps {
  readonly user: string;
  readonly theme: Theme;
  readonly onTheme: (theme: Theme) => void;
  readonly onLanguage: (language: Language) => void;
  readonly onChangeName: () => void;
}

/** Everything that a person with a name sees. */
function Desk({ user, theme, onTheme, onLanguage, onChangeName }: DeskProps) {
  const { text } = useSpeech();
  const chat = useMemo(() => new Chat(user, socketUrl()), [user]);
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const [dialog, setDialog] = useState<'none' | 'new_room' | 'settings'>('none');
  const narrow = useMedia('(max-width: 760px)');
  const peopleBeside = useMedia('(min-width: 1100px)');
  const [menuOpen, setMenuOpen] = useState(false);
  const [peopleOpen, setPeopleOpen] = useState(peopleBeside);

  useEffect(() => {
    const stopListening = chat.onChange(() => redraw(undefined));
    const follow = (): void => {
      const room = roomFromHash(location.hash);
      if (room === null) chat.close();
      else if (chat.current?.id !== room) chat.open(room);
    };
    window.addEventListener('hashchange', follow);
    chat.start();
    follow();
    return () => {
      window.removeEventListener('hashchange', follow);
      stopListening();
      chat.stop();
    };
  }, [chat]);

  const go = (room: string | null): void => {
    location.hash = room === null ? '' : hashOfRoom(room);
    setMenuOpen(false);
  };

  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.isComposing) return;
      if (event.key === 'Escape' && (menuOpen || (peopleOpen && !peopleBeside))) {
        event.preventDefault();
        setMenuOpen(false);
        if (!peopleBeside) setPeopleOpen(false);
      } else if (event.key.toLowerCase() === 'k' && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        setMenuOpen(true);
        requestAnimationFrame(() => document.getElementById('room-filter')?.focus());
      } else if (event.altKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
        const rooms = chat.roomList();
        const index = rooms.findIndex((room) => room.room === chat.current?.id);
        const next = rooms[index + (event.key === 'ArrowUp' ? -1 : 1)];
        if (next !== undefined) {
          event.preventDefault();
          go(next.room);
        }
      }
    };
    // Capturing: a drawer closes before a room in it does anything with Escape.
    document.addEventListener('keydown', onKeyDown, true);
    return () => document.removeEventListener('keydown', onKeyDown, true);
  }, [chat, menuOpen, peopleOpen, peopleBeside]);

  const room = chat.current;
  const rooms = chat.roomList();
  const title = room === null ? '' : (rooms.find((one) => one.room === room.id)?.name ?? room.id);
  const unread = rooms.reduce((sum, one) => sum + chat.unread(one), 0);

  useEffect(() => {
    document.title = `${unread > 0 ? `(${unread}) ` : ''}${title === '' ? '' : `${title} · `}${text.appName}`;
  }, [unread, title, text]);

  const drawerOpen = (narrow && menuOpen) || (!peopleBeside && peopleOpen && room !== null);
  const announcement = chat.announcement;

  return (
    <div class={`desk${menuOpen ? ' menu-open' : ''}${peopleOpen && room !== null ? ' people-open' : ''}`}>
      <a class="skip" href="#messages" onClick={(event) => {
        event.preventDefault();
        document.getElementById('messages')?.focus();
      }}>
        {text.skipToMessages}
      </a>
      <aside class="left" inert={narrow && !menuOpen}>
        <Sidebar
          chat={chat}
          onOpen={() => setMenuOpen(false)}
          onNewRoom={() => setDialog('new_room')}
          onSettings={() => setDialog('settings')}
        />
      </aside>
      <main class="center" inert={drawerOpen}>
        {room !== null ? (
          <RoomView
            chat={chat}
            room={room}
            title={title}
            peopleOpen={peopleOpen}
            onMenu={() => setMenuOpen(true)}
            onPeople={() => setPeopleOpen(!peopleOpen)}
            onLeft={() => go(null)}
            onNewRoom={() => setDialog('new_room')}
            onChangeName={onChangeName}
          />
        ) : (
          <>
            <header class="room-head only-narrow">
              <button type="button" class="round" aria-label={text.openMenu} onClick={() => setMenuOpen(true)}>
                <Icon name="menu" />
              </button>
            </header>
            <Banner chat={chat} onChangeName={onChangeName} />
            <div class="empty grow">
              <p>{text.pickRoom}</p>
              <p class="quiet">{text.pickRoomHint}</p>
              <button type="button" class="primary" onClick={() => setDialog('new_room')}>
                {text.newRoom}
              </button>
            </div>
          </>
        )}
      </main>
      {room !== null && (
        <aside class="right" inert={!peopleOpen} aria-label={text.people}>
          <People chat={chat} room={room} onClose={() => setPeopleOpen(false)} />
        </aside>
      )}
      {drawerOpen && (
        <div
          class="backdrop"
          onClick={() => {
            setMenuOpen(false);
            if (!peopleBeside) setPeopleOpen(false);
          }}
        />
      )}
      <div class="sr-only" aria-live="polite" aria-atomic="true">
        {announcement === null
          ? ''
          : announcement.count > 3
            ? text.announceMany(announcement.count)
            : text.announce(announcement.sender, announcement.text)}
      </div>
      {dialog === 'new_room' && (
        <NewRoom
          chat={chat}
          initialId={room?.refusal === 'room_not_found' ? room.id : ''}
          onClose={() => setDialog('none')}
          onOpen={(id) => {
            setDialog('none');
            if (chat.current?.id === id) chat.open(id);
            go(id);
          }}
        />
      )}
      {dialog === 'settings' && (
        <Settings
          theme={theme}
          onTheme={onTheme}
          onLanguage={onLanguage}
          onChangeName={onChangeName}
          onClose={() => setDialog('none')}
        />
      )}
    </div>
  );
}

function useMedia(query: string): boolean {
  const list = useMemo(() => matchMedia(query), [query]);
  const [matches, setMatches] = useState(list.matches);
  useEffect(() => {
    const onChange = (): void => setMatches(list.matches);
    list.addEventListener('change', onChange);
    return () => list.removeEventListener('change', onChange);
  }, [list]);
  return matches;
}
