/**
 * Which part of a long run of events stands in the document.
 *
 * A room may hold 20,000 events; the document holds at most `ROWS_MAX` rows around the place that the reader looks at.
 * Pure arithmetic on seq, so that growing at either end of the run moves nothing.
 */

export const ROWS_MAX = 240;
const ROWS_AT_END = 60;
const STEP = 60;

export interface Viewport {
  /** First seq in the document. */
  readonly top: number;
  /** Last seq in the document; null: the end of the room, and what is pending, whatever comes. */
  readonly bottom: number | null;
}

export const AT_END: Viewport = { top: Number.POSITIVE_INFINITY, bottom: null };

/** The seqs that are in the document: [from, to], empty when from > to. */
export function rowsOf(view: Viewport, lo: number, hi: number): { from: number; to: number } {
  if (view.bottom === null) {
    const top = Number.isFinite(view.top) ? view.top : hi - ROWS_AT_END + 1;
    return { from: Math.max(lo, top, hi - ROWS_MAX + 1), to: hi };
  }
  return { from: Math.max(lo, view.top), to: Math.min(hi, view.bottom) };
}

/** The reader nears the top: older rows come in, and the far end goes when there are too many. */
export function older(view: Viewport, lo: number, hi: number): Viewport {
  const { from, to } = rowsOf(view, lo, hi);
  const top = Math.max(lo, from - STEP);
  const bottom = Math.min(to, top + ROWS_MAX - 1);
  return { top, bottom: bottom === hi && view.bottom === null ? null : bottom };
}

/** The reader nears the bottom: newer rows come in, and the far end goes when there are too many. */
export function newer(view: Viewport, lo: number, hi: number): Viewport {
  const { from, to } = rowsOf(view, lo, hi);
  const bottom = Math.min(hi, to + STEP);
  const top = Math.max(from, bottom - ROWS_MAX + 1);
  return { top, bottom: bottom === hi ? null : bottom };
}

/** The reader left the end: what is in the document now stays there, and what comes in waits below. */
export function hold(view: Viewport, lo: number, hi: number): Viewport {
  const { from, to } = rowsOf(view, lo, hi);
  return { top: from, bottom: to };
}
