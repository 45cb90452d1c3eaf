/**
 * Every sentence of the page, in every language.
 *
 * English is the shape: a language that misses a key, or has one too many, does not compile.
 */

const en = {
  appName: 'Roomlog',
  // name
  nameTitle: 'What should people call you?',
  nameLabel: 'Name',
  namePlaceholder: 'ada',
  nameHint: 'Letters A–Z, digits and . _ ~ : @ + -',
  nameInvalid: 'Only letters A–Z, digits and . _ ~ : @ + - can be used, up to 128.',
  nameContinue: 'Start chatting',
  tagline: 'Chat rooms that never lose their place.',
  // rooms
  rooms: 'Rooms',
  filterRooms: 'Find or open a room',
  newRoom: 'New room',
  noRooms: 'No rooms yet. Make the first one.',
  noRoomMatches: 'No room matches.',
  openRoomNamed: (id: string) => `Open “${id}”`,
  roomsUnavailable: 'The room list cannot be read right now.',
  roomName: 'Name',
  roomNamePlaceholder: 'Lunch plans',
  roomId: 'Address',
  roomIdHint: 'Part of the room’s link. Letters A–Z, digits and . _ ~ : @ + -',
  roomIdInvalid: 'Letters A–Z, digits and . _ ~ : @ + - only, up to 128, and no ~ at the beginning.',
  create: 'Create room',
  creating: 'Creating…',
  cancel: 'Cancel',
  openIt: 'Open it',
  unread: (n: number) => (n === 1 ? '1 unread message' : `${n} unread messages`),
  pickRoom: 'Pick a room, or make a new one',
  pickRoomHint: 'Everything said in a room is numbered and kept. Come back whenever you like: you go on where you left.',
  leaveRoom: 'Leave room',
  leaveConfirm: (room: string) => `Leave ${room}?`,
  leaveHint: 'You can come back at any time by opening it again.',
  // people
  people: 'People',
  peopleCount: (n: number) => (n === 1 ? '1 person' : `${n} people`),
  owner: 'owner',
  you: 'you',
  // messages
  messages: 'Messages',
  loadingMessages: 'Loading messages…',
  emptyRoom: 'Nothing has been said here yet.',
  emptyRoomHint: 'Write the first message.',
  beginning: (room: string) => `This is the beginning of ${room}.`,
  olderGone: 'Older messages are no longer kept.',
  loadingOlder: 'Loading older messages…',
  olderFailed: 'Older messages could not be loaded.',
  newLine: 'New',
  jumpNew: (n: number) => (n === 1 ? '1 new message' : `${n} new messages`),
  jumpLatest: 'Latest messages',
  joined: (user: string) => `${user} joined`,
  left: (user: string) => `${user} left`,
  created: (user: string) => `${user} made this room`,
  otherEvent: (user: string, kind: string) => `${user}: ${kind}`,
  binaryBody: (bytes: string) => `A message that is not text (${bytes})`,
  showAll: 'Show all',
  pending: 'Sending…',
  queuedOffline: 'Will be sent once you are connected',
  waiting: 'No answer yet, trying again…',
  sent: (seq: number) => `Sent, message ${seq}`,
  failed: 'Not sent',
  retry: 'Try again',
  discard: 'Discard',
  announce: (sender: string, text: string) => `${sender}: ${text}`,
  announceMany: (n: number) => `${n} new messages`,
  // composer
  compose: (room: string) => `Message ${room}`,
  send: 'Send',
  tooLong: (bytes: string) => `Too long by ${bytes}`,
  composerHint: 'Enter sends, Shift + Enter starts a new line',
  // connection
  connecting: 'Connecting…',
  reconnecting: 'Connecting again…',
  lost: 'Connection lost.',
  retryIn: (s: number) => `Trying again in ${s} s.`,
  pendingKept: (n: number) => (n === 1 ? '1 message waits and will be sent.' : `${n} messages wait and will be sent.`),
  tryNow: 'Try now',
  halted: 'The server does not let you in.',
  chooseOtherName: 'Choose another name',
  // switches
  settings: 'Settings',
  theme: 'Appearance',
  themeSystem: 'System',
  themeLight: 'Light',
  themeDark: 'Dark',
  language: 'Language',
  changeName: 'Change name',
  openMenu: 'Show rooms',
  close: 'Close',
  skipToMessages: 'Skip to messages',
  today: 'Today',
  yesterday: 'Yesterday',
  // refusals
  refusedRoom: 'This room cannot be opened.',
  refusal: {
    room_not_found: 'There is no such room.',
    room_exists: 'There is a room with this address already.',
    forbidden: 'You are not allowed to do that.',
    unavailable: 'The server did not answer in time.',
    no_answer: 'The server did not answer in time.',
    body_too_large: 'The message is too long.',
    bad_body: 'The server could not read the message.',
    bad_user_id: 'This name cannot be used.',
    login_refused: 'This name was refused.',
    left_behind: 'It was left behind when the page was closed.',
    lost: 'There is no connection right now.',
  },
  refusalOther: (code: string) => `The server refused it (${code}).`,
};

/** The shape of a language: every key, with sentences of the same parameters. */
export type Catalogue = { readonly [Key in keyof typeof en]: (typeof en)[Key] };

const ko: Catalogue = {
  appName: 'Roomlog',
  nameTitle: '어떤 이름을 쓸까요?',
  nameLabel: '이름',
  namePlaceholder: 'ada',
  nameHint: '영문자, 숫자, . _ ~ : @ + - 를 쓸 수 있어요',
  nameInvalid: '영문자, 숫자, . _ ~ : @ + - 만 128자까지 쓸 수 있어요.',
  nameContinue: '대화 시작하기',
  tagline: '읽던 자리를 잃지 않는 대화방.',
  rooms: '대화방',
  filterRooms: '대화방 찾기 또는 열기',
  newRoom: '새 대화방',
  noRooms: '아직 대화방이 없어요. 첫 대화방을 만들어 보세요.',
  noRoomMatches: '맞는 대화방이 없어요.',
  openRoomNamed: (id) => `‘${id}’ 열기`,
  roomsUnavailable: '지금은 대화방 목록을 불러올 수 없어요.',
  roomName: '이름',
  roomNamePlaceholder: '점심 약속',
  roomId: '주소',
  roomIdHint: '대화방 링크에 들어가요. 영문자, 숫자, . _ ~ : @ + -',
  roomIdInvalid: '영문자, 숫자, . _ ~ : @ + - 만 128자까지 쓸 수 있고 ~ 로 시작할 수 없어요.',
  create: '대화방 만들기',
  creating: '만드는 중…',
  cancel: '취소',
  openIt: '열기',
  unread: (n) => `읽지 않은 메시지 ${n}개`,
  pickRoom: '대화방을 고르거나 새로 만들어 보세요',
  pickRoomHint: '대화방의 모든 말에는 번호가 붙고 보관돼요. 언제 돌아와도 읽던 곳에서 이어집니다.',
  leaveRoom: '대화방 나가기',
  leaveConfirm: (room) => `${room}에서 나갈까요?`,
  leaveHint: '다시 열면 언제든 돌아올 수 있어요.',
  people: '참여자',
  peopleCount: (n) => `${n}명`,
  owner: '방장',
  you: '나',
  messages: '메시지',
  loadingMessages: '메시지를 불러오는 중…',
  emptyRoom: '아직 아무 말도 없어요.',
  emptyRoomHint: '첫 메시지를 남겨 보세요.',
  beginning: (room) => `${room}의 첫 시작이에요.`,
  olderGone: '더 오래된 메시지는 보관되지 않아요.',
  loadingOlder: '이전 메시지를 불러오는 중…',
  olderFailed: '이전 메시지를 불러오지 못했어요.',
  newLine: '새 메시지',
  jumpNew: (n) => `새 메시지 ${n}개`,
  jumpLatest: '최근 메시지로',
  joined: (user) => `${user} 님이 들어왔어요`,
  left: (user) => `${user} 님이 나갔어요`,
  created: (user) => `${user} 님이 대화방을 만들었어요`,
  otherEvent: (user, kind) => `${user}: ${kind}`,
  binaryBody: (bytes) => `글이 아닌 메시지 (${bytes})`,
  showAll: '모두 보기',
  pending: '보내는 중…',
  queuedOffline: '연결되면 보낼게요',
  waiting: '응답이 없어 다시 보내는 중…',
  sent: (seq) => `보냄, ${seq}번 메시지`,
  failed: '보내지 못함',
  retry: '다시 보내기',
  discard: '지우기',
  announce: (sender, text) => `${sender}: ${text}`,
  announceMany: (n) => `새 메시지 ${n}개`,
  compose: (room) => `${room}에 메시지 쓰기`,
  send: '보내기',
  tooLong: (bytes) => `${bytes} 초과했어요`,
  composerHint: 'Enter로 보내고 Shift + Enter로 줄을 바꿔요',
  connecting: '연결하는 중…',
  reconnecting: '다시 연결하는 중…',
  lost: '연결이 끊겼어요.',
  retryIn: (s) => `${s}초 뒤에 다시 연결해요.`,
  pendingKept: (n) => `메시지 ${n}개가 기다리고 있고 곧 보내질 거예요.`,
  tryNow: '지금 연결',
  halted: '서버가 접속을 거절했어요.',
  chooseOtherName: '다른 이름 고르기',
  settings: '설정',
  theme: '화면 모드',
  themeSystem: '시스템',
  themeLight: '밝게',
  themeDark: '어둡게',
  language: '언어',
  changeName: '이름 바꾸기',
  openMenu: '대화방 목록 보기',
  close: '닫기',
  skipToMessages: '메시지로 건너뛰기',
  today: '오늘',
  yesterday: '어제',
  refusedRoom: '이 대화방을 열 수 없어요.',
  refusal: {
    room_not_found: '그런 대화방이 없어요.',
    room_exists: '같은 주소의 대화방이 이미 있어요.',
    forbidden: '권한이 없어요.',
    unavailable: '서버가 제때 응답하지 않았어요.',
    no_answer: '서버가 제때 응답하지 않았어요.',
    body_too_large: '메시지가 너무 길어요.',
    bad_body: '서버가 메시지를 읽지 못했어요.',
    bad_user_id: '쓸 수 없는 이름이에요.',
    login_refused: '이 이름은 거절됐어요.',
    left_behind: '페이지를 닫을 때 남겨진 메시지예요.',
    lost: '지금은 연결되어 있지 않아요.',
  },
  refusalOther: (code) => `서버가 거절했어요 (${code}).`,
};

export const languages = { en, ko } as const;
export type Language = keyof typeof languages;
export const languageNames: Record<Language, string> = { en: 'English', ko: '한국어' };

export function isLanguage(text: string): text is Language {
  return Object.hasOwn(languages, text);
}

/** The first language that a browser asks for and we speak; English when there is none. */
export function preferredLanguage(asked: readonly string[]): Language {
  for (const tag of asked) {
    const language = tag.toLowerCase().split('-')[0]!;
    if (isLanguage(language)) return language;
  }
  return 'en';
}

/** What a refusal code says to a person. */
export function refusalText(text: Catalogue, code: string): string {
  return Object.hasOwn(text.refusal, code)
    ? text.refusal[code as keyof Catalogue['refusal']]
    : text.refusalOther(code);
}
