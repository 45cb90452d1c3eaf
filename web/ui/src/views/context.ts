/** What every view needs and none owns: the language's sentences and its clock. */

import { createContext } from 'preact';
import { useContext } from 'preact/hooks';

import { languages, type Catalogue, type Language } from '../text/catalogue';
import { Clock } from '../text/time';

export interface Speech {
  readonly language: Language;
  readonly text: Catalogue;
  readonly clock: Clock;
}

export function speech(language: Language): Speech {
  const text = languages[language];
  return { language, text, clock: new Clock(language, text) };
}

export const SpeechContext = createContext<Speech>(speech('en'));

export function useSpeech(): Speech {
  return useContext(SpeechContext);
}
