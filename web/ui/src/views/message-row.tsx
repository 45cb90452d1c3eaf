/** One row of the timeline. Bodies are untrusted: they only ever become text nodes and checked links. */

import { Component } from 'preact';
import { useState } from 'preact/hooks';

import type { Chat } from '../chat';
import type { RoomEvent } from '../model/events';
import type { Pending } from '../model/outbox';
import { refusalText } from '../text/catalogue';
import { partsOf } from '../text/links';
import { byteSize } from '../text/time';
import type { Speech } from './context';
import { useSpeech } from './context';
import { Avatar, Icon } from './icons';

/** A longer body is folded: one message must not push the others off the page. */
const FOLD_CHARS = 3_000;
const FOLD_LINES = 30;

function Body({ body }: { readonly body: string }) {
  const { text } = useSpeech();
  const [open, setOpen] = useState(false);
  const folded = open ? body : fold(body);
  return (
    <div class="body" dir="auto">
      {partsOf(folded).map((part, index) =>
        part.href === undefined ? (
          part.text
        ) : (
          <a key={index} href={part.href} target="_blank" rel="noopener noreferrer nofollow">
            {part.text}
          </a>
        ),
      )}
      {folded.length < body.length && (
        <>
          {'… '}
          <button type="button" class="link" onClick={() => setOpen(true)}>
            {text.showAll}
          </button>
        </>
      )}
    </div>
  );
}

function fold(body: string): string {
  let end = Math.min(body.length, FOLD_CHARS);
  for (let line = 0, at = -1; line < FOLD_LINES; line += 1) {
    at = body.indexOf('\n', at + 1);
    if (at === -1 || at > end) return body.length - end < 200 ? body : body.slice(0, end);
    if (line === FOLD_LINES - 1) end = at;
  }
  return body.length - end < 200 && !body.slice(end + 1).includes('\n') ? body : body.slice(0, end);
}

interface EventProps {
  readonly event: RoomEvent;
  readonly mine: boolean;
  /** It goes on where the row above ended: same person, a moment later. */
  readonly joined: boolean;
  readonly speech: Speech;
}

/** An event. Events never change, so a row is drawn again only when what stands around it does. */
export class EventRow extends Component<EventProps> {
  override shouldComponentUpdate(next: EventProps): boolean {
    const now = this.props;
    return next.event !== now.event || next.joined !== now.joined || next.speech !== now.speech;
  }

  render({ event, mine, joined, speech: { text, clock } }: EventProps) {
    if (event.kind !== 'message') {
      return (
        <li class="row notice" data-seq={event.seq} data-kind={event.kind}>
          <span>{noticeText(event, text)}</span>
          <time dateTime={new Date(event.at).toISOString()} title={clock.exact(event.at)}>
            {clock.time(event.at)}
          </time>
        </li>
      );
    }
    return (
      <li
        class={`row message${mine ? ' mine' : ''}${joined ? ' joined' : ''}`}
        data-seq={event.seq}
        data-client-id={event.clientId ?? undefined}
      >
        <div class="side">
          {joined ? <time aria-hidden="true">{clock.time(event.at)}</time> : <Avatar user={event.sender} />}
        </div>
        <div class="main">
          <div class={joined ? 'by sr-only' : 'by'}>
            <b>{event.sender}</b>
            <time dateTime={new Date(event.at).toISOString()} title={clock.exact(event.at)}>
              {clock.time(event.at)}
            </time>
          </div>
          {event.body === null ? (
            <div class="body quiet">{text.binaryBody(byteSize(event.bodyBytes))}</div>
          ) : (
            <Body body={event.body} />
          )}
        </div>
        <div class="mark-seq" title={mine ? text.sent(event.seq) : clock.exact(event.at)}>
          <span>{event.seq}</span>
          {mine && <Icon name="check" />}
        </div>
      </li>
    );
  }
}

function noticeText(event: RoomEvent, text: Speech['text']): string {
  switch (event.kind) {
    case 'member.joined':
      return text.joined(event.sender);
    case 'member.left':
      return text.left(event.sender);
    case 'room.created':
      return text.created(event.sender);
    case 'room.renumbered':
      return text.renumbered;
    default:
      return text.otherEvent(event.sender, event.kind);
  }
}

interface PendingProps {
  readonly chat: Chat;
  readonly message: Pending;
  readonly joined: boolean;
}

/** A message that is not in the log yet, with its state and, when it failed, what can be done. */
export function PendingRow({ chat, message, joined }: PendingProps) {
  const { text, clock } = useSpeech();
  const up = chat.link.state.phase === 'up';
  const failed = message.state === 'failed';
  const status =
    message.state === 'sent'
      ? text.sent(message.seq ?? 0)
      : message.state === 'waiting'
        ? text.waiting
        : up
          ? text.pending
          : text.queuedOffline;
  return (
    <li
      class={`row message mine pending${joined ? ' joined' : ''}${failed ? ' failed' : ''}`}
      data-client-id={message.clientId}
      data-state={message.state}
    >
      <div class="side">{!joined && <Avatar user={chat.user} />}</div>
      <div class="main">
        <div class={joined ? 'by sr-only' : 'by'}>
          <b>{chat.user}</b>
          <time>{clock.time(message.createdAt)}</time>
        </div>
        <Body body={message.body} />
        {failed && (
          <div class="trouble" role="alert">
            <Icon name="alert" />
            <span>
              {text.failed}. {refusalText(text, message.code ?? 'unavailable')}
            </span>
            <button type="button" class="small" onClick={() => chat.sender.retry(message)}>
              {text.retry}
            </button>
            <button type="button" class="small" onClick={() => chat.sender.discard(message)}>
              {text.discard}
            </button>
          </div>
        )}
      </div>
      {!failed && (
        <div class="mark-seq" title={status}>
          <span class={message.seq === null ? 'sr-only' : ''}>{message.seq ?? status}</span>
          <Icon name={message.state === 'sent' ? 'check' : 'clock'} />
        </div>
      )}
    </li>
  );
}
