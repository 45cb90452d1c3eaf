/** The HTTP side: room list, history, members. Every answer is checked before it is believed. */

import { eventFromJson, type RoomEvent } from '../model/events';
import type { Member } from '../model/members';

export interface RoomSummary {
  readonly room: string;
  readonly name: string | null;
  readonly members: number;
  readonly headSeq: number;
  readonly msgNo: number;
  /** Milliseconds since 1970, or null for a room without events. */
  readonly lastAt: number | null;
}

export interface HistoryPage {
  readonly epoch: string;
  readonly firstSeq: number;
  readonly events: readonly RoomEvent[];
}

/** A refusal (`code` of the problem document), or `unreachable` when no answer of ours came. */
export class ApiError extends Error {
  constructor(readonly code: string) {
    super(code);
  }
}

const TIMEOUT_MS = 10_000;

/** The room list is read page by page; more rooms than this are not listed (the filter still opens any by its id). */
const ROOM_PAGES_MAX = 10;

/** A thousand people a page: who is in a larger room is not read name by name. */
const MEMBER_PAGES_MAX = 3;

export class Api {
  constructor(private readonly login: string) {}

  async rooms(): Promise<readonly RoomSummary[]> {
    const rooms: RoomSummary[] = [];
    let cursor: string | null = null;
    for (let page = 0; page < ROOM_PAGES_MAX; page += 1) {
      const query: string = cursor === null ? 'limit=100' : `limit=100&cursor=${encodeURIComponent(cursor)}`;
      const answer = await this.get(`/api/v1/rooms?${query}`);
      rooms.push(...list(answer['rooms']).map(roomSummary).filter((room) => room !== null));
      cursor = typeof answer['next'] === 'string' ? answer['next'] : null;
      if (cursor === null) break;
    }
    return rooms;
  }

  async before(room: string, seq: number, limit: number): Promise<HistoryPage> {
    const path = `/api/v1/rooms/${encodeURIComponent(room)}/messages?before_seq=${seq}&limit=${limit}`;
    const answer = await this.get(path);
    const { epoch, first_seq } = answer;
    if (typeof epoch !== 'string') throw new ApiError('unreachable');
    const events = list(answer['events']).map((row) => eventFromJson(row, epoch));
    if (events.some((event) => event === null)) throw new ApiError('unreachable');
    return { epoch, firstSeq: typeof first_seq === 'number' ? first_seq : 1, events: events as RoomEvent[] };
  }

  async members(room: string): Promise<readonly Member[]> {
    const members: Member[] = [];
    const path = `/api/v1/rooms/${encodeURIComponent(room)}/members`;
    for (let page = 0, after = ''; page < MEMBER_PAGES_MAX; page += 1) {
      const answer = await this.get(after === '' ? path : `${path}?after=${encodeURIComponent(after)}`);
      members.push(...list(answer['members']).map(member).filter((one) => one !== null));
      if (typeof answer['next'] !== 'string') break;
      after = answer['next'];
    }
    return members;
  }

  private async get(path: string): Promise<Record<string, unknown>> {
    let response: Response;
    let body: unknown;
    try {
      response = await fetch(path, {
        headers: { accept: 'application/json', 'x-login': this.login },
        cache: 'no-store',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      body = await response.json();
    } catch {
      throw new ApiError('unreachable');
    }
    const fields = typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
    if (!response.ok) throw new ApiError(typeof fields['code'] === 'string' ? fields['code'] : 'unreachable');
    return fields;
  }
}

function list(value: unknown): readonly Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'object' && item !== null) : [];
}

function roomSummary(row: Record<string, unknown>): RoomSummary | null {
  const { room, name, members, head_seq, msg_no, last_at } = row;
  if (typeof room !== 'string') return null;
  const time = typeof last_at === 'string' ? Date.parse(last_at) : NaN;
  return {
    room,
    name: typeof name === 'string' && name !== '' ? name : null,
    members: typeof members === 'number' ? members : 0,
    headSeq: typeof head_seq === 'number' ? head_seq : 0,
    msgNo: typeof msg_no === 'number' ? msg_no : 0,
    lastAt: Number.isNaN(time) ? null : time,
  };
}

function member(row: Record<string, unknown>): Member | null {
  const { user, role, seq } = row;
  if (typeof user !== 'string' || typeof role !== 'string') return null;
  return { user, role, seq: typeof seq === 'number' ? seq : 0 };
}
