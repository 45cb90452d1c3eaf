/** Where a message is written. */

import { useEffect, useRef, useState } from 'preact/hooks';

import type { Chat } from '../chat';
import type { Room } from '../room';
import { useSpeech } from './context';
import { byteSize } from '../text/time';
import { Icon } from './icons';

/** The server takes 48 KiB (docs/protocol.md, section 1); better to say so before than after. */
const BODY_BYTES_MAX = 49_152;

/** Unsent text by room, so that a look into another room loses nothing. */
const drafts = new Map<string, string>();

export function Composer({ chat, room, title }: { chat: Chat; room: Room; title: string }) {
  const { text } = useSpeech();
  const input = useRef<HTMLTextAreaElement>(null);
  const [excess, setExcess] = useState(0);
  const [empty, setEmpty] = useState(true);

  const measure = (): void => {
    const area = input.current!;
    area.style.height = 'auto';
    area.style.height = `${area.scrollHeight}px`;
    // A character is at most 3 bytes per UTF-16 unit: count exactly only where it can matter.
    const long = area.value.length * 3 > BODY_BYTES_MAX;
    setExcess(long ? Math.max(0, new TextEncoder().encode(area.value).byteLength - BODY_BYTES_MAX) : 0);
    setEmpty(area.value.trim() === '');
  };

  useEffect(() => {
    const area = input.current!;
    area.value = drafts.get(room.id) ?? '';
    measure();
    // On a phone the keyboard would cover what one came to read.
    if (matchMedia('(hover: hover)').matches) area.focus();
  }, [room.id]);

  const submit = (): void => {
    const area = input.current!;
    const body = asText(area.value);
    if (body === '' || new TextEncoder().encode(body).byteLength > BODY_BYTES_MAX) return;
    chat.post(room, body);
    area.value = '';
    drafts.delete(room.id);
    measure();
  };

  const onKeyDown = (event: KeyboardEvent): void => {
    // An Enter that ends a composition (Hangul, kana) belongs to the input method; some browsers say so by 229 only.
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    submit();
  };

  return (
    <form
      class={excess > 0 ? 'composer over' : 'composer'}
      onSubmit={(event) => {
        event.preventDefault();
        submit();
        input.current!.focus();
      }}
    >
      <textarea
        ref={input}
        rows={1}
        dir="auto"
        placeholder={text.compose(title)}
        aria-label={text.compose(title)}
        aria-invalid={excess > 0}
        title={text.composerHint}
        enterkeyhint="send"
        onKeyDown={onKeyDown}
        onInput={(event) => {
          drafts.set(room.id, event.currentTarget.value);
          measure();
        }}
      />
      {excess > 0 && (
        <span class="excess" role="alert">
          {text.tooLong(byteSize(excess))}
        </span>
      )}
      <button type="submit" class="send" disabled={empty || excess > 0} aria-label={text.send} title={text.send}>
        <Icon name="send" />
      </button>
    </form>
  );
}

/** What was typed, without what a text frame cannot carry: NUL, and halves of a character. */
function asText(typed: string): string {
  return typed
    .replaceAll('\0', '')
    .replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, '\uFFFD')
    .trim();
}
