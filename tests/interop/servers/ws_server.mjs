// The server of the npm package `ws`. following.py says how a client leads it; the argument is a path beside which
// node_modules lies.

import { once } from "node:events";
import { createRequire } from "node:module";

const { WebSocketServer } = createRequire(process.argv[2])("ws");

const trade = (sequence, pad) =>
  `{"sequence":${sequence},"symbol_id":"COINBASE_SPOT_BTC_USD","price":1.5,"pad":"${pad}","type":"trade"}`;
const sent = (socket, data, options = {}) =>
  new Promise((resolve, reject) => socket.send(data, options, (error) => (error ? reject(error) : resolve())));

function stepsOf(socket, texts, wasReceived, wasClosed) {
  // Several come in one turn of the loop, so each is looked at as it comes.
  const pong = (expected) =>
    new Promise((resolve) => socket.on("pong", (payload) => payload.toString() === expected && resolve()));
  return {
    async receive() {
      await wasReceived();
    },
    async trade(sequence, size = 0, pad = "x") {
      await sent(socket, trade(sequence, pad.repeat(size)));
    },
    async binary(payload) {
      await sent(socket, Buffer.from(payload, "hex"));
    },
    async fragments(sequence, size, parts) {
      const text = trade(sequence, "z".repeat(size));
      const step = Math.floor(text.length / parts) + 1;
      const answered = pong("between");
      for (let begin = 0; begin < text.length; begin += step) {
        await sent(socket, text.slice(begin, begin + step), { fin: begin + step >= text.length });
        if (begin === 0) {
          socket.ping("between");
          await answered;
        }
      }
    },
    async flood(count) {
      const answered = pong(String(count - 1));
      for (let number = 0; number < count; number++) socket.ping(String(number));
      await answered;
    },
    async close(code, reason) {
      code === null ? socket.close() : socket.close(code, reason);
      await wasClosed;
    },
    async closed() {
      await wasClosed;
    },
    async raw(bytes) {
      socket._socket.write(Buffer.from(bytes, "hex"));
    },
    async fin() {
      socket._socket.end();
    },
    async rst() {
      socket._socket.resetAndDestroy();
    },
  };
}

async function follow(socket, request) {
  const [number, encoded] = request.url.split("/").slice(-2);
  const texts = [];
  const done = [];
  let heard = null;
  let taken = 0;
  let notify = () => {};
  socket.on("message", (data, isBinary) => {
    texts.push(isBinary ? null : data.toString());
    notify();
  });
  const wasReceived = async () => {
    while (texts.length <= taken) await new Promise((resolve) => (notify = resolve));
    taken++;
  };
  // It says 1006 where no Close came.
  const wasClosed = once(socket, "close").then(([code, reason]) => {
    heard = code === 1006 ? null : [code, reason.toString()];
  });
  socket.on("error", () => {}); // "close" follows
  const steps = stepsOf(socket, texts, wasReceived, wasClosed);
  try {
    for (const [name, ...details] of JSON.parse(Buffer.from(encoded, "base64url"))) {
      await steps[name](...details);
      done.push(name);
    }
  } catch (error) {
    if (socket.readyState === socket.OPEN) throw error; // otherwise the client was faster, and `done` tells
  }
  const { url: path, headers } = request;
  process.stdout.write(JSON.stringify({ number: Number(number), path, headers, texts, heard, done }) + "\n");
}

// It agrees on compression only where it may bound both windows.
const perMessageDeflate = { clientMaxWindowBits: 10, serverMaxWindowBits: 10 };
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate }, () =>
  process.stdout.write(`${server.address().port}\n`),
);
server.on("connection", follow);
process.stdin.resume().on("end", () => process.exit(0));
