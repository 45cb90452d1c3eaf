/** Line icons, drawn in the colour of the text around them; names are for people who read the code, not the page. */

const PATHS = {
  menu: 'M4 7h16M4 12h16M4 17h16',
  people: 'M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM2.5 20c.4-3.6 3-5.5 6.5-5.5s6.1 1.9 6.5 5.5M16 4.3a3.5 3.5 0 0 1 0 6.4M18 14.9c2 .8 3.2 2.5 3.5 5.1',
  plus: 'M12 5v14M5 12h14',
  send: 'M5 12h13M12.5 6l6 6-6 6',
  down: 'M12 5v13M6 12.5l6 6 6-6',
  close: 'M6 6l12 12M18 6 6 18',
  search: 'M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM16.2 16.2 20 20',
  settings: 'M4 7h10M18 7h2M4 17h2M10 17h10M16 9.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM8 19.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Z',
  leave: 'M14 5H6v14h8M10.5 12H20M16.5 8.5 20 12l-3.5 3.5',
  clock: 'M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16ZM12 8v4.3l2.8 1.7',
  check: 'M5.5 12.5l4.5 4.5L19 7.5',
  alert: 'M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16ZM12 8v5M12 16v.1',
} as const;

export function Icon({ name }: { readonly name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** Roomlog's mark: lines of a log. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" />
      <path d="M9 10.5h14M9 16h14M9 21.5h8" />
    </svg>
  );
}

const HUES = 10;

/** A person's initial on a colour of their own. */
export function Avatar({ user, small = false }: { readonly user: string; readonly small?: boolean }) {
  // FNV-1a: short names that differ by one letter get colours that differ.
  let hash = 0x811c9dc5;
  for (let index = 0; index < user.length; index += 1) {
    hash = Math.imul(hash ^ user.charCodeAt(index), 0x01000193) >>> 0;
  }
  hash ^= hash >>> 15;
  const initial = (/[A-Za-z0-9]/.exec(user)?.[0] ?? user.charAt(0)).toUpperCase();
  return (
    <span class={`avatar hue-${(hash >>> 0) % HUES}${small ? ' small' : ''}`} aria-hidden="true">
      {initial}
    </span>
  );
}
