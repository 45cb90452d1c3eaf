/** An open room: its head, the connection's state, the messages, and where to write. */

import { useState } from 'preact/hooks';

import type { Chat } from '../chat';
import type { Room } from '../room';
import { refusalText } from '../text/catalogue';
import { Banner } from './banner';
import { Composer } from './composer';
import { useSpeech } from './context';
import { Dialog } from './dialog';
import { Icon } from './icons';
import { Timeline } from './timeline';

interface Props {
  readonly chat: Chat;
  readonly room: Room;
  readonly title: string;
  readonly peopleOpen: boolean;
  readonly onMenu: () => void;
  readonly onPeople: () => void;
  readonly onLeft: () => void;
  readonly onNewRoom: () => void;
  readonly onChangeName: () => void;
}

export function RoomView({ chat, room, title, peopleOpen, onMenu, onPeople, onLeft, onNewRoom, onChangeName }: Props) {
  const { text } = useSpeech();
  const [leaving, setLeaving] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const count = room.members.list().length;

  const leave = async (): Promise<void> => {
    const answer = await chat.leave(room);
    if (answer.kind === 'ok') onLeft();
    else setProblem(answer.kind === 'refused' ? answer.code : 'lost');
  };

  return (
    <>
      <header class="room-head">
        <button type="button" class="round only-narrow" aria-label={text.openMenu} title={text.openMenu} onClick={onMenu}>
          <Icon name="menu" />
        </button>
        <div class="room-title">
          <h1>{title}</h1>
          {title !== room.id && <span class="quiet">{room.id}</span>}
        </div>
        {room.refusal === null && (
          <button
            type="button"
            class="round"
            aria-label={text.leaveRoom}
            title={text.leaveRoom}
            onClick={() => {
              setProblem(null);
              setLeaving(true);
            }}
          >
            <Icon name="leave" />
          </button>
        )}
        <button
          type="button"
          class="round people-button"
          aria-label={count > 0 ? `${text.people}: ${text.peopleCount(count)}` : text.people}
          title={text.people}
          aria-expanded={peopleOpen}
          onClick={onPeople}
        >
          <Icon name="people" />
          {count > 0 && <span>{count}</span>}
        </button>
      </header>
      <Banner chat={chat} onChangeName={onChangeName} />
      {room.refusal === null ? (
        <>
          <Timeline key={room.id} chat={chat} room={room} title={title} />
          <Composer chat={chat} room={room} title={title} />
        </>
      ) : (
        <div class="empty grow">
          <p>{text.refusedRoom}</p>
          <p class="quiet">{refusalText(text, room.refusal)}</p>
          {room.refusal === 'room_not_found' && (
            <button type="button" class="primary" onClick={onNewRoom}>
              {text.newRoom}
            </button>
          )}
        </div>
      )}
      {leaving && (
        <Dialog title={text.leaveConfirm(title)} onClose={() => setLeaving(false)}>
          <p class="quiet">{text.leaveHint}</p>
          {problem !== null && (
            <p class="wrong" role="alert">
              {refusalText(text, problem)}
            </p>
          )}
          <div class="buttons">
            <button type="button" onClick={() => setLeaving(false)}>
              {text.cancel}
            </button>
            <button type="button" class="primary" onClick={() => void leave()}>
              {text.leaveRoom}
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
