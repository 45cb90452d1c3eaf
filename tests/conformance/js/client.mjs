// A stompjs client under remote control: one JSON operation a line on stdin, one JSON event a line on stdout.
// Nothing here knows Roomlog: it is what a page does with stompjs, spelled out.
import { createInterface } from "node:readline";

import { Client, Versions } from "@stomp/stompjs";
import { WebSocket } from "ws";

globalThis.WebSocket = WebSocket;

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const described = (frame) => ({
  headers: frame.headers,
  body: frame.body,
  base64: Buffer.from(frame.binaryBody).toString("base64"),
});

let client;
const subscriptions = new Map();
const messages = new Map();
const transactions = new Map();

const operations = {
  open({ url, versions = ["1.2", "1.1", "1.0"], headers = {}, beats = [10000, 10000], binary = false }) {
    client = new Client({
      brokerURL: url,
      stompVersions: new Versions(versions),
      connectHeaders: headers,
      heartbeatOutgoing: beats[0],
      heartbeatIncoming: beats[1],
      forceBinaryWSFrames: binary,
      reconnectDelay: 100,
      onConnect: (frame) => say({ event: "connected", version: client.connectedVersion, ...described(frame) }),
      onStompError: (frame) => {
        say({ event: "error", ...described(frame) });
        client.deactivate();
      },
      onWebSocketClose: ({ code, reason }) => say({ event: "closed", code, reason }),
      onUnhandledReceipt: (frame) => say({ event: "receipt", ...described(frame) }),
    });
    client.activate();
  },
  subscribe({ destination, headers = {} }) {
    const subscription = client.subscribe(
      destination,
      (message) => {
        messages.set(`${message.headers.subscription} ${message.headers["message-id"]}`, message);
        say({ event: "message", ...described(message) });
      },
      headers,
    );
    subscriptions.set(subscription.id, subscription);
  },
  unsubscribe({ id, headers = {} }) {
    subscriptions.get(id).unsubscribe(headers);
  },
  publish({ destination, body, base64, headers = {} }) {
    if (base64 === undefined) client.publish({ destination, body, headers });
    else client.publish({ destination, binaryBody: new Uint8Array(Buffer.from(base64, "base64")), headers });
  },
  publishMany({ destination, first, last }) {
    for (let n = first; n <= last; n++) {
      const headers = { receipt: `r-${n}`, "x-client-id": `c-${n}` };
      client.publish({ destination, body: `${n}`, headers });
    }
  },
  ack({ subscription, id, headers = {} }) {
    messages.get(`${subscription} ${id}`).ack(headers);
  },
  nack({ subscription, id, headers = {} }) {
    messages.get(`${subscription} ${id}`).nack(headers);
  },
  begin({ name }) {
    transactions.set(name, client.begin(name));
  },
  commit({ name }) {
    transactions.get(name).commit();
  },
  abort({ name }) {
    transactions.get(name).abort();
  },
  // The network goes away: no DISCONNECT, no closing handshake. stompjs comes back by itself.
  drop() {
    client.webSocket.terminate();
  },
  async close() {
    await client.deactivate();
    say({ event: "deactivated" });
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...rest } = JSON.parse(line);
  await operations[op](rest);
}
process.exit(0);
