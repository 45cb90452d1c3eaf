/** Who is in the room. */

import type { Chat } from '../chat';
import type { Room } from '../room';
import { useSpeech } from './context';
import { Avatar, Icon } from './icons';

/** More people than this are counted, not listed: nobody reads further, and every row costs. */
const LISTED_MAX = 500;

interface Props {
  readonly chat: Chat;
  readonly room: Room;
  readonly onClose: () => void;
}

export function People({ chat, room, onClose }: Props) {
  const { text } = useSpeech();
  const people = room.members.list();
  return (
    <div class="people">
      <header class="people-head">
        <h2>{text.people}</h2>
        <span class="quiet">{people.length > 0 ? people.length : ''}</span>
        <button type="button" class="round" aria-label={text.close} title={text.close} onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      <ul>
        {people.slice(0, LISTED_MAX).map((member) => (
          <li key={member.user} data-user={member.user}>
            <Avatar user={member.user} small />
            <span class="person">{member.user}</span>
            {member.user === chat.user && <span class="tag">{text.you}</span>}
            {member.role === 'owner' && <span class="tag">{text.owner}</span>}
          </li>
        ))}
      </ul>
      {people.length > LISTED_MAX && <p class="quiet note">{text.peopleCount(people.length)}</p>}
    </div>
  );
}
