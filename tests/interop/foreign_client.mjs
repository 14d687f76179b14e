// A connection of the npm package `ws`, led from outside: a step as a JSON line in, its outcome as a JSON line out.
// The argument is a path beside which node_modules lies. Whatever fails ends the process, with a trace on stderr.

import { on, once } from "node:events";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const WebSocket = createRequire(process.argv[2])("ws");

let socket, texts, closed;

const steps = {
  async connect({ url }) {
    socket = new WebSocket(url);
    texts = on(socket, "message", { close: ["close"] });
    closed = once(socket, "close");
    await once(socket, "open");
  },

  async send({ text }) {
    await promisify(socket.send).call(socket, text);
  },

  async receive() {
    const { value, done } = await texts.next();
    if (done) throw new Error("closed while a text was awaited");
    const [payload, isBinary] = value;
    if (isBinary) throw new Error("binary where a text was awaited");
    return { text: payload.toString() };
  },

  async ping({ payload }) {
    const answered = once(socket, "pong");
    socket.ping(Buffer.from(payload, "hex"));
    const [answer] = await answered;
    return { payload: answer.toString("hex") };
  },

  async close({ code, reason }) {
    socket.close(code, reason);
    await closed;
  },

  async closed() {
    const [code, reason] = await closed;
    return { code, reason: reason.toString() };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { step, ...details } = JSON.parse(line);
  process.stdout.write(JSON.stringify((await steps[step](details)) ?? {}) + "\n");
}
socket?.terminate();
