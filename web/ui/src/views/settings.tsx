/** The person's switches: appearance, language, name. */

import { languageNames, type Language } from '../text/catalogue';
import { useSpeech } from './context';
import { Dialog } from './dialog';

export type Theme = 'system' | 'light' | 'dark';
export const THEMES: readonly Theme[] = ['system', 'light', 'dark'];

interface Props {
  readonly theme: Theme;
  readonly onTheme: (theme: Theme) => void;
  readonly onLanguage: (language: Language) => void;
  readonly onChangeName: () => void;
  readonly onClose: () => void;
}

export function Settings({ theme, onTheme, onLanguage, onChangeName, onClose }: Props) {
  const { text, language } = useSpeech();
  const themeNames: Record<Theme, string> = { system: text.themeSystem, light: text.themeLight, dark: text.themeDark };
  return (
    <Dialog title={text.settings} onClose={onClose}>
      <fieldset class="choice">
        <legend>{text.theme}</legend>
        {THEMES.map((one) => (
          <label key={one}>
            <input type="radio" name="theme" value={one} checked={one === theme} onChange={() => onTheme(one)} />
            <span>{themeNames[one]}</span>
          </label>
        ))}
      </fieldset>
      <fieldset class="choice">
        <legend>{text.language}</legend>
        {(Object.keys(languageNames) as Language[]).map((one) => (
          <label key={one} lang={one}>
            <input type="radio" name="language" value={one} checked={one === language} onChange={() => onLanguage(one)} />
            <span>{languageNames[one]}</span>
          </label>
        ))}
      </fieldset>
      <div class="buttons">
        <button type="button" onClick={onChangeName}>
          {text.changeName}
        </button>
        <button type="button" class="primary" onClick={onClose}>
          {text.close}
        </button>
      </div>
    </Dialog>
  );
}
