/** What the person should know about the connection; nothing while all is well. */

import { useEffect, useState } from 'preact/hooks';

import type { Chat } from '../chat';
import { refusalText } from '../text/catalogue';
import { useSpeech } from './context';

export function Banner({ chat, onChangeName }: { readonly chat: Chat; readonly onChangeName: () => void }) {
  const { text } = useSpeech();
  const state = chat.link.state;
  const [, setTick] = useState(0);

  useEffect(() => {
    if (state.phase !== 'waiting') return;
    const timer = setInterval(() => setTick((tick) => tick + 1), 250);
    return () => clearInterval(timer);
  }, [state.phase]);

  if (state.phase === 'up' || state.phase === 'stopped') return null;
  if (state.phase === 'connecting') {
    return (
      <div class={state.attempt === 0 ? 'banner first' : 'banner'} role="status" data-phase="connecting">
        <span class="spinner" aria-hidden="true" />
        {state.attempt === 0 ? text.connecting : text.reconnecting}
      </div>
    );
  }
  if (state.phase === 'halted') {
    return (
      <div class="banner bad" role="alert" data-phase="halted">
        <span>
          {text.halted} {refusalText(text, state.code)}
        </span>
        <button type="button" class="small" onClick={onChangeName}>
          {text.chooseOtherName}
        </button>
        <button type="button" class="small" onClick={() => chat.link.retryNow()}>
          {text.tryNow}
        </button>
      </div>
    );
  }
  const seconds = Math.max(1, Math.ceil((state.retryAt - Date.now()) / 1000));
  const pending = chat.current === null ? 0 : chat.outbox.of(chat.current.id).filter((m) => m.state === 'queued').length;
  return (
    <div class="banner" role="status" data-phase="waiting">
      <span>
        {text.lost} <span class="countdown" aria-hidden="true">{text.retryIn(seconds)}</span>
        {pending > 0 && <span> {text.pendingKept(pending)}</span>}
      </span>
      <button type="button" class="small" onClick={() => chat.link.retryNow()}>
        {text.tryNow}
      </button>
    </div>
  );
}
