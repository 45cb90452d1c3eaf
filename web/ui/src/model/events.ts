/**
 * An event of a room as the page holds it, and the two ways it comes in: a MESSAGE frame and a row of the history API.
 *
 * Decoded at the edge, once: what does not have the promised shape is no event (`null`), and the callers treat that as a
 * break of the promise, never as an event with pieces missing.
 */

export interface RoomEvent {
  /** Position in the room: 1, 2, 3, … with no hole. */
  readonly seq: number;
  /** Names the numbering; another one means that everything held is of another log. */
  readonly epoch: string;
  readonly kind: string;
  readonly sender: string;
  /** Milliseconds since 1970, from the log's clock, never from a browser's. */
  readonly at: number;
  /** Number of the last message at or before this event; unread is a difference of two of these. */
  readonly msgNo: number;
  readonly clientId: string | null;
  /** The text; null when the sender's bytes are no text. */
  readonly body: string | null;
  readonly bodyBytes: number;
  /** On an event that changes a membership: whose, and the role after it (`owner`, `member`, `none`). */
  readonly member: { readonly user: string; readonly role: string } | null;
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A MESSAGE frame as an event, or null when its headers are not what the protocol promises. */
export function eventFromFrame(headers: Readonly<Record<string, string>>, body: Uint8Array): RoomEvent | null {
  const seq = wholeNumber(headers['x-seq']);
  const msgNo = wholeNumber(headers['x-msg-no'] ?? '0');
  const at = Date.parse(headers['x-time'] ?? '');
  const { 'x-epoch': epoch, 'x-kind': kind, 'x-sender': sender } = headers;
  if (seq === null || seq < 1 || msgNo === null || Number.isNaN(at) || !epoch || !kind || !sender) return null;
  let text: string | null;
  try {
    text = utf8.decode(body);
  } catch {
    text = null;
  }
  return {
    seq,
    epoch,
    kind,
    sender,
    at,
    msgNo,
    clientId: headers['x-client-id'] ?? null,
    body: text,
    bodyBytes: body.byteLength,
    member: memberOf(headers['x-user'], headers['x-role']),
  };
}

/** A row of `GET /api/v1/rooms/{room}/messages` as an event, or null. The page's epoch stands on the page. */
export function eventFromJson(row: unknown, epoch: string): RoomEvent | null {
  if (!isRecord(row)) return null;
  const { seq, kind, sender, at, msg_no, client_id, body, body_b64, member } = row;
  const time = typeof at === 'string' ? Date.parse(at) : NaN;
  if (!isSeq(seq) || typeof kind !== 'string' || typeof sender !== 'string' || Number.isNaN(time)) return null;
  const text = typeof body === 'string' ? body : '';
  const isBytes = typeof body_b64 === 'string';
  return {
    seq,
    epoch,
    kind,
    sender,
    at: time,
    msgNo: typeof msg_no === 'number' ? msg_no : 0,
    clientId: typeof client_id === 'string' ? client_id : null,
    body: isBytes ? null : text,
    bodyBytes: isBytes ? Math.floor((body_b64.replace(/=+$/, '').length * 3) / 4) : text.length,
    member: isRecord(member) ? memberOf(member['user'], member['role']) : null,
  };
}

function memberOf(user: unknown, role: unknown): RoomEvent['member'] {
  return typeof user === 'string' && typeof role === 'string' ? { user, role } : null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isSeq(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1;
}

/** A header that holds a number, as the number; null for anything else. */
export function wholeNumber(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;
}
