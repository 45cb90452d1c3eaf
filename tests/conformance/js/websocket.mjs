// Node 20 has no WebSocket of its own: what a browser has, for programs that are run as they stand.
import { WebSocket } from "ws";

globalThis.WebSocket = WebSocket;
