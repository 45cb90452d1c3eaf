/** The first thing a new person sees: which name to go by. */

import { useState } from 'preact/hooks';

import { isUserId } from '../model/ids';
import { languageNames, type Language } from '../text/catalogue';
import { useSpeech } from './context';
import { Mark } from './icons';

interface Props {
  readonly initial: string;
  readonly onName: (name: string) => void;
  readonly onLanguage: (language: Language) => void;
}

export function NamePage({ initial, onName, onLanguage }: Props) {
  const { text, language } = useSpeech();
  const [name, setName] = useState(initial);
  const [touched, setTouched] = useState(false);
  const wrong = touched && !isUserId(name.trim());

  return (
    <main class="welcome">
      <form
        class="card"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          setTouched(true);
          if (isUserId(name.trim())) onName(name.trim());
        }}
      >
        <div class="brand">
          <Mark />
          <span>{text.appName}</span>
        </div>
        <p class="quiet">{text.tagline}</p>
        <label class="field">
          <span>{text.nameTitle}</span>
          <input
            name="name"
            value={name}
            placeholder={text.namePlaceholder}
            maxLength={128}
            autoComplete="username"
            autoCapitalize="none"
            spellcheck={false}
            aria-label={text.nameLabel}
            aria-invalid={wrong}
            aria-describedby="name-hint"
            ref={(input) => input?.focus()}
            onInput={(event) => setName(event.currentTarget.value)}
          />
          <small id="name-hint" class={wrong ? 'wrong' : ''} role={wrong ? 'alert' : undefined}>
            {wrong ? text.nameInvalid : text.nameHint}
          </small>
        </label>
        <button type="submit" class="primary wide">
          {text.nameContinue}
        </button>
        <p class="languages">
          {(Object.keys(languageNames) as Language[]).map((one) => (
            <button
              key={one}
              type="button"
              class="link"
              lang={one}
              aria-pressed={one === language}
              onClick={() => onLanguage(one)}
            >
              {languageNames[one]}
            </button>
          ))}
        </p>
      </form>
    </main>
  );
}
