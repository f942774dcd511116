// Classes that are shown: freeze the picture, click a thing or drag a box around it, name it.
//
// The frozen frame comes from the server, without annotations, and the server keeps it: what is shown there is read there.

import { post } from "./live.js";

const $ = (id) => document.getElementById(id);
const DRAG = 0.012; // share of the picture's longer side from which a press is a drag
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// Calls `say(text)` for a screen reader and `fail(error)` for what went wrong outside of the dialog.
export function examples({ say, fail }) {
  let frozen = null; // the frame's number
  let region = null; // what was pressed: { point } or { box }, shares of the picture
  let start = null; // where a press or a box began
  let corner = null; // the box's first corner, by keyboard
  let cross = { x: 0.5, y: 0.5 };
  let asked = 0; // proposals asked for
  const frame = $("show-frame");

  const clamp = (value) => Math.min(1, Math.max(0, value));
  const place = (event) => {
    const box = frame.getBoundingClientRect();
    return { x: clamp((event.clientX - box.left) / box.width), y: clamp((event.clientY - box.top) / box.height) };
  };
  const boxOf = (a, b) => [Math.min(a.x, b.x), Math.min(a.y, b.y), Math.abs(a.x - b.x), Math.abs(a.y - b.y)];
  const problem = (text) => ($("show-problem").textContent = text);

  function drawBox(box) {
    $("show-box").hidden = !box;
    if (!box) return;
    const [left, top, width, height] = box.map((value) => `${value * 100}%`);
    Object.assign($("show-box").style, { left, top, width, height });
  }

  function drawOutlines(outlines) {
    const path = outlines.map((line) => `M${line.map(([x, y]) => `${x * 1000},${y * 1000}`).join("L")}Z`).join("");
    for (const part of $("show-outline").children) part.setAttribute("d", path);
  }

  function moveCross(to) {
    cross = to;
    Object.assign($("show-cross").style, { left: `${cross.x * 100}%`, top: `${cross.y * 100}%` });
    $("show-cross").hidden = false;
    if (corner) drawBox(boxOf(corner, cross));
  }

  function forget() {
    region = start = corner = null;
    asked += 1;
    drawOutlines([]);
    drawBox(null);
    $("show-add").disabled = true;
    $("show-cross").hidden = true;
    problem("");
  }

  async function propose(chosen) {
    region = chosen;
    const number = (asked += 1);
    $("show-hint").textContent = "Looking at the region";
    problem("");
    try {
      const found = await post("/examples", { ...region, frame: frozen, propose: true });
      if (number !== asked) return;
      drawOutlines(found.outlines);
      drawBox(null);
      const share = found.share < 0.01 ? "<1" : (found.share * 100).toFixed(0);
      $("show-hint").textContent = `Region of ${share} % of the picture. Name it and press Enter, or show another one.`;
      say(`A region of ${share} % of the picture is outlined`);
      $("show-add").disabled = false;
      $("show-name").focus();
      $("show-name").select();
    } catch (error) {
      if (number === asked) problem(error.message);
    }
  }

  async function open() {
    try {
      const kept = await post("/freeze", {});
      const image = new Image();
      image.src = `frozen.jpg?frame=${kept.frame}`;
      await image.decode();
      frozen = kept.frame;
      forget();
      $("show-picture").src = image.src;
      frame.style.setProperty("--aspect", kept.width / kept.height);
      $("show-outline").setAttribute("viewBox", "0 0 1000 1000");
      $("show-hint").textContent = "Click the thing, or drag a box around it.";
      if (!$("show-dialog").open) $("show-dialog").showModal();
      frame.focus();
      say("The picture is frozen. Click the thing, or drag a box around it. By keyboard: arrow keys, then Enter for the thing, or Space for a corner of a box.");
    } catch (error) {
      fail(error);
    }
  }

  async function add(event) {
    event.preventDefault();
    const name = $("show-name").value.trim();
    const negative = $("show-negative").checked;
    if (!region || !name) {
      problem(region ? "Type a name first." : "Show the thing in the picture first.");
      return;
    }
    $("show-add").disabled = true;
    try {
      const answer = await post("/examples", { ...region, frame: frozen, name, negative });
      say(`${negative ? "Shown as not being" : "Added an example of"} ${name}. Classes: ${answer.classes.join(", ")}`);
      $("show-dialog").close();
    } catch (error) {
      problem(error.message);
      $("show-add").disabled = false;
    }
  }

  async function undo() {
    try {
      const answer = await post("/undo", {});
      say(`Took back the last example of ${answer.undone}. Classes: ${answer.classes.join(", ")}`);
    } catch (error) {
      fail(error);
    }
  }

  async function load() {
    const [file] = $("show-file").files;
    $("show-file").value = "";
    if (!file) return;
    try {
      const bytes = new Uint8Array(await file.arrayBuffer());
      let text = "";
      for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
      const answer = await post("/load", { file: btoa(text) });
      say(`Loaded ${file.name}. Classes: ${answer.classes.join(", ")}`);
    } catch (error) {
      fail(error);
    }
  }

  frame.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    forget();
    start = place(event);
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (!start) return;
    const box = boxOf(start, place(event));
    drawBox(Math.max(box[2], box[3]) >= DRAG ? box : null);
  });
  frame.addEventListener("pointerup", (event) => {
    if (!start) return;
    const end = place(event);
    const box = boxOf(start, end);
    start = null;
    if (Math.max(box[2], box[3]) < DRAG) {
      moveCross(end);
      propose({ point: [end.x, end.y] });
    } else if (Math.min(box[2], box[3]) > 0) propose({ box });
    else drawBox(null);
  });
  frame.addEventListener("pointercancel", forget);
  frame.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.1 : 0.02;
    if (KEYS[event.key]) {
      const [dx, dy] = KEYS[event.key];
      moveCross({ x: clamp(cross.x + dx * step), y: clamp(cross.y + dy * step) });
    } else if (event.key === " ") {
      const first = corner;
      if (first && boxOf(first, cross).slice(2).every((side) => side > 0)) {
        corner = null;
        propose({ box: boxOf(first, cross) });
      } else {
        forget();
        corner = cross;
        moveCross(cross);
        say("First corner of a box. Move to the opposite corner and press Space.");
      }
    } else if (event.key === "Enter") {
      corner = null;
      propose({ point: [cross.x, cross.y] });
    } else return;
    event.preventDefault();
  });
  $("show-form").addEventListener("submit", add);
  $("show-close").addEventListener("click", () => $("show-dialog").close());
  $("show-dialog").addEventListener("close", () => {
    frozen = null;
    forget();
    $("show-negative").checked = false;
    $("show").focus();
  });
  $("show").addEventListener("click", open);
  $("show-undo").addEventListener("click", undo);
  $("show-load").addEventListener("click", () => $("show-file").click());
  $("show-file").addEventListener("change", load);

  return {
    open,
    isOpen: () => $("show-dialog").open,
    // With a new state from the server.
    told(news) {
      $("show").hidden = !news.shows;
      $("kept").hidden = !news.shows;
      $("show-undo").hidden = !news.undoable;
    },
  };
}
