/**
 * When to try again after a lost connection.
 *
 * Exponential with jitter over the upper half of the step: clients that lost one gateway together do not come back
 * together. The close code tells the next move (docs/protocol.md, section 4).
 */

const FIRST_MS = 500;
const STEP_MAX_MS = 10_000;

/** Closed because of overload or an engine: not at once. */
const LATER_MIN_MS = 2_000;
const LATER = new Set([4029, 4503]);

/** The identity was refused: trying again by ourselves would not change the answer. */
const HALT = new Set([4001, 4003]);

/** A connection that lived this long was a good one: the next loss begins at the first step again. */
export const STABLE_AFTER_MS = 5_000;

export type NextMove = { readonly kind: 'halt' } | { readonly kind: 'retry'; readonly delayMs: number };

/** `attempt` counts from 0 since the last good connection; `random` is in [0, 1). */
export function nextMove(attempt: number, closeCode: number, random: number): NextMove {
  if (HALT.has(closeCode)) return { kind: 'halt' };
  const step = Math.min(STEP_MAX_MS, FIRST_MS * 2 ** Math.min(attempt, 16));
  const delayMs = step / 2 + (random * step) / 2;
  return { kind: 'retry', delayMs: Math.round(LATER.has(closeCode) ? Math.max(delayMs, LATER_MIN_MS) : delayMs) };
}

/** Pause before a message that was answered with `unavailable` is sent again; `attempts` counts from 1. */
export function resendDelayMs(attempts: number, random: number): number {
  const step = Math.min(15_000, 1_000 * 2 ** Math.min(attempts - 1, 8));
  return Math.round(step / 2 + (random * step) / 2);
}
