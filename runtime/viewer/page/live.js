// The connection: frames and state from the server, and requests to it. Addresses are relative to the page: each of several
// cameras has its own.

const NEXT = "next";

// Calls handlers.frame(header, bitmap), handlers.news(news), handlers.link("open" | "lost" | "ended").
// `path` is the stream's, relative to the page. Returns a function that ends the connection.
export function connect(handlers, path = "live") {
  let wait = 500;
  let owed = 0; // frames drawn while the page was hidden: no further ones are requested
  let ended = false; // stays set while attempts to reach the next run fail
  let closed = false;
  let socket;

  function open() {
    if (closed) return;
    const address = new URL(path, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    owed = 0;
    socket.onopen = () => {
      wait = 500;
      handlers.link("open");
    };
    socket.onmessage = async (event) => {
      if (typeof event.data === "string") {
        const told = JSON.parse(event.data);
        ended = told.ended === true;
        if (ended) socket.close();
        else handlers.news(told);
        return;
      }
      const own = socket;
      const length = new DataView(event.data).getUint32(0);
      const header = JSON.parse(new TextDecoder().decode(new Uint8Array(event.data, 4, length)));
      const jpeg = new Blob([new Uint8Array(event.data, 4 + length)], { type: "image/jpeg" });
      try {
        const bitmap = await createImageBitmap(jpeg);
        handlers.frame(header, bitmap);
        bitmap.close();
      } finally {
        if (own === socket) {
          if (document.hidden) owed += 1;
          else if (own.readyState === WebSocket.OPEN) own.send(NEXT);
        }
      }
    };
    socket.onclose = () => {
      handlers.link(ended ? "ended" : "lost");
      setTimeout(open, wait);
      wait = Math.min(wait * 2, 5000);
    };
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !socket || socket.readyState !== WebSocket.OPEN) return;
    for (; owed > 0; owed -= 1) socket.send(NEXT);
  });
  open();
  return () => {
    closed = true;
    socket.close();
  };
}

// Returns the reply's JSON; throws an Error with the server's message, and the reply's `status` if there was one.
export async function post(path, body) {
  let reply;
  try {
    reply = await fetch(`.${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("the server does not answer");
  }
  const answer = await reply.json().catch(() => ({}));
  if (!reply.ok) {
    throw Object.assign(new Error(answer.error || `server error ${reply.status}`), { status: reply.status });
  }
  return answer;
}

// A function that sends at most one request every `pause` milliseconds; changes in between are merged, and the last one wins:
// `colours` by their labels, others by their names.
// Calls `answered` with each reply, `settled` when all is sent; its `busy()` is true in between.
export function throttled(path, pause, { failed, answered, settled }) {
  let waiting = null;
  let timer = 0;
  async function flush() {
    if (!waiting) {
      timer = 0;
      settled();
      return;
    }
    const body = waiting;
    waiting = null;
    timer = -1;
    try {
      answered(await post(path, body));
    } catch (error) {
      failed(error);
    }
    timer = setTimeout(flush, pause);
  }
  const send = (change) => {
    const colours = { ...waiting?.colours, ...change.colours };
    waiting = { ...waiting, ...change, ...(Object.keys(colours).length ? { colours } : {}) };
    if (!timer) timer = setTimeout(flush, 0);
  };
  send.busy = () => timer !== 0;
  return send;
}

// A line through the latest values, drawn to fill `canvas`.
export function sparkline(canvas, colour) {
  const values = [];
  return (value) => {
    values.push(value);
    if (values.length > 90) values.shift();
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const pen = canvas.getContext("2d");
    const top = Math.max(...values, 1e-6) * 1.15;
    const x = (index) => ((index + 90 - values.length) / 89) * width;
    const y = (number) => height - 1.5 * ratio - (number / top) * (height - 3 * ratio);
    pen.clearRect(0, 0, width, height);
    pen.beginPath();
    values.forEach((number, index) => pen.lineTo(x(index), y(number)));
    pen.lineWidth = 1.5 * ratio;
    pen.lineJoin = "round";
    pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue(colour);
    pen.stroke();
    pen.lineTo(width, height);
    pen.lineTo(x(0), height);
    pen.globalAlpha = 0.12;
    pen.fillStyle = pen.strokeStyle;
    pen.fill();
    pen.globalAlpha = 1;
  };
}

// `button` switches between dark and light; the browser keeps the choice.
export function themed(button) {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
  button.addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", dark ? "light" : "dark");
  });
}
