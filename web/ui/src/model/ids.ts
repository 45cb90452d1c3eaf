/** Names of rooms and people: 1-128 characters of `A-Z a-z 0-9 . _ ~ : @ + -` (docs/protocol.md, section 2). */

const ID = /^[A-Za-z0-9._~:@+-]{1,128}$/;

export function isUserId(text: string): boolean {
  return ID.test(text);
}

/** A room id that a person may choose: ids that begin with `~` belong to direct rooms. */
export function isNewRoomId(text: string): boolean {
  return ID.test(text) && !text.startsWith('~');
}

export function isRoomId(text: string): boolean {
  return ID.test(text);
}

/** A room id made from a name that is free text; empty when nothing of the name can stand in an id. */
export function roomIdFromName(name: string): string {
  return name
    .normalize('NFKD')
    .replace(/[\u0300-\u036f]/g, '')
    .toLowerCase()
    .replace(/[^a-z0-9._]+/g, '-')
    .replace(/^[-.]+|[-.]+$/g, '')
    .slice(0, 64);
}

/** A new client id: 128 random bits. (`randomUUID` is missing on pages without TLS.) */
export function newClientId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** `#/room/general` -> `general`; null for any other address. */
export function roomFromHash(hash: string): string | null {
  const match = /^#\/room\/([^/]+)$/.exec(hash);
  if (match === null) return null;
  try {
    const room = decodeURIComponent(match[1]!);
    return isRoomId(room) ? room : null;
  } catch {
    return null;
  }
}

export function hashOfRoom(room: string): string {
  return `#/room/${encodeURIComponent(room)}`;
}
