/** Times and sizes as a person reads them, in the chosen language and this browser's zone. */

import type { Catalogue, Language } from './catalogue';

const DAY_MS = 86_400_000;

export class Clock {
  private readonly hour: Intl.DateTimeFormat;
  private readonly long: Intl.DateTimeFormat;
  private readonly weekday: Intl.DateTimeFormat;
  private readonly weekdayYear: Intl.DateTimeFormat;
  private readonly short: Intl.DateTimeFormat;

  constructor(
    language: Language,
    private readonly text: Catalogue,
  ) {
    this.hour = new Intl.DateTimeFormat(language, { hour: 'numeric', minute: '2-digit' });
    this.long = new Intl.DateTimeFormat(language, { dateStyle: 'full', timeStyle: 'medium' });
    this.weekday = new Intl.DateTimeFormat(language, { weekday: 'long', month: 'long', day: 'numeric' });
    this.weekdayYear = new Intl.DateTimeFormat(language, { year: 'numeric', month: 'long', day: 'numeric' });
    this.short = new Intl.DateTimeFormat(language, { month: 'short', day: 'numeric' });
  }

  time(at: number): string {
    return this.hour.format(at);
  }

  exact(at: number): string {
    return this.long.format(at);
  }

  day(at: number, now: number): string {
    const days = (dayOf(now) - dayOf(at)) / DAY_MS;
    if (days === 0) return this.text.today;
    if (days === 1) return this.text.yesterday;
    return (new Date(at).getFullYear() === new Date(now).getFullYear() ? this.weekday : this.weekdayYear).format(at);
  }

  /** For the room list: the time today, the day before that. */
  brief(at: number, now: number): string {
    return dayOf(at) === dayOf(now) ? this.time(at) : this.short.format(at);
  }
}

/** A number that is the same for all moments of one local day, and one DAY_MS higher for the next. */
export function dayOf(at: number): number {
  const date = new Date(at);
  return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
}

export function byteSize(bytes: number): string {
  return bytes < 1024 ? `${bytes} B` : `${(bytes / 1024).toFixed(1)} KiB`;
}
