/** Makes a room: a name in any writing, and the address that its link will have. */

import { useState } from 'preact/hooks';

import type { Chat } from '../chat';
import { isNewRoomId, newClientId, roomIdFromName } from '../model/ids';
import { refusalText } from '../text/catalogue';
import { useSpeech } from './context';
import { Dialog } from './dialog';

interface Props {
  readonly chat: Chat;
  readonly initialId: string;
  readonly onClose: () => void;
  readonly onOpen: (room: string) => void;
}

export function NewRoom({ chat, initialId, onClose, onOpen }: Props) {
  const { text } = useSpeech();
  const [name, setName] = useState('');
  const [chosenId, setChosenId] = useState<string | null>(initialId === '' ? null : initialId);
  // For a name of which nothing can stand in an address (점심).
  const [fallback] = useState(() => `room-${newClientId().slice(0, 6)}`);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const id = chosenId ?? (name.trim() === '' ? '' : roomIdFromName(name) || fallback);
  const idWrong = id !== '' && !isNewRoomId(id);

  const submit = async (): Promise<void> => {
    if (busy || !isNewRoomId(id)) return;
    setBusy(true);
    const answer = await chat.create(id, name.trim() === '' || name.trim() === id ? null : name.trim());
    setBusy(false);
    if (answer.kind === 'ok') onOpen(answer.headers['x-room'] ?? id);
    else setProblem(answer.kind === 'refused' ? answer.code : 'lost');
  };

  return (
    <Dialog title={text.newRoom} onClose={onClose}>
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <label class="field">
          <span>{text.roomName}</span>
          <input
            name="room-name"
            value={name}
            maxLength={100}
            placeholder={text.roomNamePlaceholder}
            autoComplete="off"
            onInput={(event) => {
              setName(event.currentTarget.value);
              setProblem(null);
            }}
          />
        </label>
        <label class="field">
          <span>{text.roomId}</span>
          <input
            name="room-id"
            value={id}
            maxLength={128}
            autoComplete="off"
            autoCapitalize="none"
            spellcheck={false}
            aria-invalid={idWrong}
            aria-describedby="room-id-hint"
            onInput={(event) => {
              setChosenId(event.currentTarget.value);
              setProblem(null);
            }}
          />
          <small id="room-id-hint" class={idWrong ? 'wrong' : ''}>
            {idWrong ? text.roomIdInvalid : text.roomIdHint}
          </small>
        </label>
        {problem !== null && (
          <p class="wrong" role="alert">
            {refusalText(text, problem)}{' '}
            {problem === 'room_exists' && (
              <button type="button" class="link" onClick={() => onOpen(id)}>
                {text.openIt}
              </button>
            )}
          </p>
        )}
        <div class="buttons">
          <button type="button" onClick={onClose}>
            {text.cancel}
          </button>
          <button type="submit" class="primary" disabled={busy || !isNewRoomId(id)}>
            {busy ? text.creating : text.create}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
