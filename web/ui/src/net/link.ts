/**
 * The socket: one STOMP connection at a time, kept up over every loss, with every request answered.
 *
 * stompjs does the protocol; this shell does what its reconnect does not: jitter, the close code's advice, a countdown
 * that can be shown, an immediate try when the network is back, and an answer to every request (`ok`, `refused`, or
 * `lost` with the connection), so that no caller waits for ever. Every attempt has a client of its own; what an old one
 * still says is ignored.
 */

import { Client, type IMessage } from '@stomp/stompjs';

import { nextMove, STABLE_AFTER_MS } from '../model/backoff';

export type LinkState =
  | { readonly phase: 'connecting'; readonly attempt: number }
  | { readonly phase: 'up' }
  | { readonly phase: 'waiting'; readonly attempt: number; readonly retryAt: number }
  /** The identity was refused: only the person can change something. */
  | { readonly phase: 'halted'; readonly code: string }
  | { readonly phase: 'stopped' };

export type Answer =
  | { readonly kind: 'ok'; readonly headers: Readonly<Record<string, string>> }
  | { readonly kind: 'refused'; readonly code: string; readonly detail: string }
  /** The connection went before the answer: it may have been done. */
  | { readonly kind: 'lost' };

export interface LinkListener {
  /** A connection is there: subscribe and send now; frames leave in the order of the calls. */
  linkUp(): void;
  /**
   * It is gone; every open request has been answered with `lost`. `ourFault`: the server closed it because of something
   * that we sent, which would end the next connection just the same.
   */
  linkDown(ourFault: boolean): void;
  linkChanged(): void;
}

export interface Subscription {
  unsubscribe(): void;
}

/** The gateway answers a command within 15 s or says `unavailable`; this is for a gateway that says nothing. */
const ANSWER_TIMEOUT_MS = 20_000;

/** Code of a refusal that no server said: it was silent. */
export const NO_ANSWER = 'no_answer';

/** Refusals that may be other answers in a moment. */
export const FOR_NOW: ReadonlySet<string> = new Set([
  NO_ANSWER,
  'unavailable',
  'going_away',
  'too_many_in_flight',
]);

const CONNECT_TIMEOUT_MS = 10_000;
const HEART_BEAT_MS = 10_000;

/** Close codes for what no retry mends: broken STOMP, not UTF-8, too big (docs/protocol.md, section 4). */
const OUR_FAULT = new Set([1002, 1007, 1009]);

/** Codes of an ERROR after which trying again would get the same answer. */
const HALTING = new Set(['login_refused', 'bad_user_id', 'forbidden', 'host_not_served', 'version_mismatch']);

interface Request {
  readonly answer: (answer: Answer) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class Link {
  state: LinkState = { phase: 'stopped' };

  private client: Client | null = null;
  private attempt = 0;
  private upSince = 0;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private haltCode: string | null = null;
  private readonly requests = new Map<string, Request>();
  private requestCount = 0;
  private subscriptionCount = 0;

  constructor(
    private readonly url: string,
    private readonly login: string,
    private readonly listener: LinkListener,
  ) {}

  start(): void {
    window.addEventListener('online', this.onOnline);
    window.addEventListener('offline', this.onOffline);
    document.addEventListener('visibilitychange', this.onVisible);
    this.connect();
  }

  stop(): void {
    window.removeEventListener('online', this.onOnline);
    window.removeEventListener('offline', this.onOffline);
    document.removeEventListener('visibilitychange', this.onVisible);
    clearTimeout(this.retryTimer);
    const client = this.client;
    this.client = null;
    void client?.deactivate();
    this.loseRequests();
    this.become({ phase: 'stopped' });
  }

  /** Tries at once, when there is something to try. */
  retryNow(): void {
    if (this.state.phase !== 'waiting' && this.state.phase !== 'halted') return;
    clearTimeout(this.retryTimer);
    this.connect();
  }

  /** SUBSCRIBE, answered by its RECEIPT. Only while `up`. */
  subscribe(
    destination: string,
    headers: Readonly<Record<string, string>>,
    onMessage: (message: IMessage) => void,
    onAnswer: (answer: Answer) => void,
  ): Subscription {
    const client = this.client!;
    const id = `s${++this.subscriptionCount}`;
    const receipt = this.expect(onAnswer);
    let ended = false;
    client.subscribe(
      destination,
      (message) => {
        // What is still on its way after an UNSUBSCRIBE belongs to nobody.
        if (!ended && client === this.client) onMessage(message);
      },
      { ...headers, id, ack: 'auto', receipt },
    );
    return {
      unsubscribe: () => {
        ended = true;
        if (client === this.client && client.connected) client.unsubscribe(id);
      },
    };
  }

  /** SEND, answered by its RECEIPT or its refusal. Only while `up`. */
  send(
    destination: string,
    headers: Readonly<Record<string, string>>,
    body: string,
    onAnswer: (answer: Answer) => void,
  ): void {
    const receipt = this.expect(onAnswer);
    this.client!.publish({ destination, headers: { ...headers, receipt }, body });
  }

  // ---------------------------------------------------------------- the connection's life

  private connect(): void {
    this.haltCode = null;
    const client = new Client({
      brokerURL: this.url,
      connectHeaders: { login: this.login },
      connectionTimeout: CONNECT_TIMEOUT_MS,
      heartbeatIncoming: HEART_BEAT_MS,
      heartbeatOutgoing: HEART_BEAT_MS,
      // Reconnecting is our business, see above.
      reconnectDelay: 0,
      forceBinaryWSFrames: false,
      splitLargeFrames: false,
      // A dead network answers no closing handshake: do not wait for it.
      discardWebsocketOnCommFailure: true,
    });
    const ours = (then: () => void): void => {
      if (client === this.client) then();
    };
    client.onConnect = () => ours(() => this.onConnected());
    client.onUnhandledReceipt = (frame) =>
      ours(() => this.answer(frame.headers['receipt-id'], { kind: 'ok', headers: frame.headers }));
    client.onStompError = (frame) =>
      ours(() => {
        const code = frame.headers['error-code'] ?? 'bad_frame';
        if (HALTING.has(code)) this.haltCode = code;
        const detail = frame.headers['message'] ?? '';
        this.answer(frame.headers['receipt-id'], { kind: 'refused', code, detail });
      });
    client.onWebSocketClose = (event: CloseEvent) => ours(() => this.onClosed(event.code));
    this.client = client;
    this.become({ phase: 'connecting', attempt: this.attempt });
    client.activate();
  }

  private onConnected(): void {
    this.upSince = Date.now();
    // First of all: from here on a refusal does not cost the connection.
    this.client!.subscribe('/user/queue/errors', (message) => this.onRefusal(message), { id: 'errors', ack: 'auto' });
    this.state = { phase: 'up' };
    this.listener.linkUp();
    this.listener.linkChanged();
  }

  private onRefusal(message: IMessage): void {
    const code = message.headers['error-code'] ?? 'internal';
    const detail = message.headers['message'] ?? '';
    this.answer(message.headers['receipt-id'], { kind: 'refused', code, detail });
  }

  private onClosed(code: number): void {
    const wasUp = this.state.phase === 'up';
    if (wasUp && Date.now() - this.upSince >= STABLE_AFTER_MS) this.attempt = 0;
    this.client = null;
    this.loseRequests();
    if (wasUp) this.listener.linkDown(OUR_FAULT.has(code));
    const move = this.haltCode === null ? nextMove(this.attempt, code, Math.random()) : { kind: 'halt' as const };
    if (move.kind === 'halt') {
      this.become({ phase: 'halted', code: this.haltCode ?? String(code) });
      return;
    }
    this.attempt += 1;
    this.retryTimer = setTimeout(() => this.connect(), move.delayMs);
    this.become({ phase: 'waiting', attempt: this.attempt, retryAt: Date.now() + move.delayMs });
  }

  /** Gives the connection up without waiting for the network to say so. */
  private abandon(): void {
    const client = this.client;
    if (client === null) return;
    this.onClosed(1006);
    void client.deactivate({ force: true });
  }

  private readonly onOnline = (): void => this.retryNow();

  private readonly onOffline = (): void => {
    // The page may live on this very machine, so trying goes on; but an open socket is not to be trusted any more.
    if (this.state.phase === 'up') this.abandon();
  };

  private readonly onVisible = (): void => {
    if (document.visibilityState === 'visible' && this.state.phase === 'waiting') this.retryNow();
  };

  // ---------------------------------------------------------------- requests and answers

  private expect(answer: (answer: Answer) => void): string {
    const id = `r${++this.requestCount}`;
    const timer = setTimeout(
      () => this.answer(id, { kind: 'refused', code: NO_ANSWER, detail: '' }),
      ANSWER_TIMEOUT_MS,
    );
    this.requests.set(id, { answer, timer });
    return id;
  }

  private answer(id: string | undefined, answer: Answer): void {
    const request = id === undefined ? undefined : this.requests.get(id);
    if (request === undefined) return;
    this.requests.delete(id!);
    clearTimeout(request.timer);
    request.answer(answer);
  }

  private loseRequests(): void {
    for (const id of [...this.requests.keys()]) this.answer(id, { kind: 'lost' });
  }

  private become(state: LinkState): void {
    this.state = state;
    this.listener.linkChanged();
  }
}
