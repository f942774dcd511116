// Zones and lines over the picture: drawn and changed by mouse, touch or keyboard, and listed with what is in them.
//
// Points are shares of the picture's width and height. Every change is sent as the whole set, with the set that it was
// made from; the server merges it with what other pages changed, uses it from the next frame on, and saves it where the
// run has a file for it.

import { post } from "./live.js";

const LEAST = { zones: 3, lines: 2 };
const WHAT = { zones: "zone", lines: "line" };
const ANCHORS = { foot: "feet", centre: "centre", half: "half of it", touch: "any part" };
const SVG = "http://www.w3.org/2000/svg";

const $ = (id) => document.getElementById(id);
const within = (value) => Math.min(1, Math.max(0, value));
const rounded = (value) => Math.round(within(value) * 10000) / 10000;

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// `say` speaks to screen readers, `fail` shows an error, `cross()` is where the keyboard points in the picture.
export function zones({ say, fail, cross, moveCross }) {
  const layer = $("places");
  const handles = $("handles");
  let known = { zones: {}, lines: {} }; // what the server uses
  let watch = null; // all it told last
  let drawing = null; // { kind, points } while one is drawn
  let chosen = null; // { kind, name } whose points can be dragged
  let dragged = null; // the set with a change that is not sent yet
  let hover = null; // where the pointer is while drawing
  let sending = 0;
  let refused = false; // whether the server's refusal of the last change is shown
  let again = ""; // what to tell of a change that was made while one was sent

  const current = () => dragged ?? known;
  const copy = () => structuredClone(known);
  const freeName = (kind) => {
    const taken = new Set([...Object.keys(known.zones), ...Object.keys(known.lines)]);
    let number = 1;
    while (taken.has(`${WHAT[kind]} ${number}`)) number += 1;
    return `${WHAT[kind]} ${number}`;
  };

  async function send(places, told) {
    sending += 1;
    dragged = places;
    show();
    try {
      const answer = await post("/places", { ...places, base: known });
      known = { zones: answer.zones, lines: answer.lines };
      if (refused) fail({ message: "" });
      refused = false;
      say(told + (answer.saved ? `, saved to ${answer.file}` : ""));
    } catch (error) {
      refused = true;
      fail(error);
    }
    sending -= 1;
    if (!sending && again) {
      const next = again;
      again = "";
      await send(dragged, next);
    } else if (!sending) dragged = null;
    show();
  }

  // The points were dragged.
  function drop() {
    const told = `${chosen?.name ?? "A place"} changed`;
    if (dragged && sending) again = told;
    else if (dragged) send(dragged, told);
  }

  // -- drawing -------------------------------------------------------------------------------------------------------

  function begin(kind) {
    drawing = { kind, points: [] };
    chosen = null;
    say(`Drawing a ${WHAT[kind]}. Click or tap its corners; by keyboard, move the crosshair with the arrow keys, Space sets a corner, Enter finishes, Escape cancels.`);
    $("picture").focus({ preventScroll: true });
    moveCross(0, 0);
    show();
  }

  function add(x, y) {
    drawing.points.push([rounded(x), rounded(y)]);
    if (drawing.kind === "lines" && drawing.points.length === 2) finish();
    else show();
  }

  function finish() {
    const { kind, points } = drawing;
    if (points.length < LEAST[kind]) {
      fail(new Error(`a ${WHAT[kind]} needs ${LEAST[kind]} points; ${points.length} are set`));
      return;
    }
    const name = freeName(kind);
    const places = copy();
    places[kind][name] = { points, anchor: "foot" };
    drawing = hover = null;
    chosen = { kind, name };
    $("cross").hidden = true;
    send(places, `${name} added`).then(() => {
      const field = document.querySelector(`#place-list [data-name="${CSS.escape(name)}"] input`);
      field?.focus({ preventScroll: true });
      field?.select();
    });
  }

  function cancel() {
    drawing = hover = null;
    $("cross").hidden = true;
    say("Cancelled");
    show();
  }

  const place = (event) => {
    const box = layer.getBoundingClientRect();
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  };

  layer.addEventListener("pointerdown", (event) => {
    if (!drawing || event.button > 0) return;
    event.preventDefault();
    const [x, y] = place(event);
    const box = layer.getBoundingClientRect();
    const first = drawing.points[0];
    const near = first && Math.hypot((x - first[0]) * box.width, (y - first[1]) * box.height) < 14;
    if (near && drawing.points.length >= LEAST[drawing.kind]) finish();
    else add(x, y);
  });
  layer.addEventListener("pointermove", (event) => {
    if (!drawing) return;
    hover = place(event);
    showShapes();
  });
  $("picture").addEventListener("keydown", (event) => {
    if (!drawing) return;
    if (event.key === " ") add(cross().x, cross().y);
    else if (event.key === "Enter") finish();
    else if (event.key === "Escape") cancel();
    else if (event.key === "Backspace") {
      drawing.points.pop();
      show();
    } else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, { capture: true });
  $("draw-zone").addEventListener("click", () => begin("zones"));
  $("draw-line").addEventListener("click", () => begin("lines"));
  $("draw-done").addEventListener("click", () => finish());
  $("draw-cancel").addEventListener("click", () => cancel());

  // -- points of a zone or line that is there ------------------------------------------------------------------------

  function move(index, x, y) {
    dragged = dragged ?? copy();
    dragged[chosen.kind][chosen.name].points[index] = [rounded(x), rounded(y)];
    showShapes();
    const handle = handles.children[index];
    handle.style.left = `${x * 100}%`;
    handle.style.top = `${y * 100}%`;
  }

  function handle(point, index) {
    const button = element("button", { type: "button", className: "handle" });
    button.setAttribute("aria-label", `Point ${index + 1} of ${chosen.name}. Arrow keys move it, Delete removes it.`);
    button.style.left = `${point[0] * 100}%`;
    button.style.top = `${point[1] * 100}%`;
    button.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      button.focus();
      button.setPointerCapture(event.pointerId);
      const drag = (moved) => move(index, ...place(moved));
      button.addEventListener("pointermove", drag);
      const end = () => {
        button.removeEventListener("pointermove", drag);
        drop();
      };
      button.addEventListener("pointerup", end, { once: true });
      button.addEventListener("pointercancel", end, { once: true });
    });
    button.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.05 : 0.01;
      const steps = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      const points = current()[chosen.kind][chosen.name].points;
      if (steps[event.key]) {
        const [x, y] = points[index];
        move(index, within(x + steps[event.key][0]), within(y + steps[event.key][1]));
        settle();
      } else if (event.key === "Delete" || event.key === "Backspace") {
        if (points.length <= LEAST[chosen.kind]) fail(new Error(`a ${WHAT[chosen.kind]} needs ${LEAST[chosen.kind]} points`));
        else {
          const places = structuredClone(current());
          places[chosen.kind][chosen.name].points.splice(index, 1);
          send(places, `Point removed from ${chosen.name}`).then(() => handles.children[Math.max(0, index - 1)]?.focus());
        }
      } else return;
      event.preventDefault();
      event.stopPropagation();
    });
    return button;
  }

  let settling = 0;
  function settle() { // keys repeat: send once they pause
    clearTimeout(settling);
    settling = setTimeout(drop, 250);
  }

  // -- the list ------------------------------------------------------------------------------------------------------

  function rename(kind, name, wanted) {
    const next = wanted.trim().replace(/\s+/g, " ");
    if (!next || next === name) return show();
    const places = copy();
    places[kind] = Object.fromEntries(Object.entries(places[kind]).map(([key, entry]) => [key === name ? next : key, entry]));
    if (chosen?.name === name) chosen = { kind, name: next };
    return send(places, `${name} is now ${next}`);
  }

  function remove(kind, name) {
    const places = copy();
    delete places[kind][name];
    if (chosen?.name === name) chosen = null;
    $(`draw-${WHAT[kind]}`).focus();
    send(places, `${name} removed`);
  }

  function item(kind, name) {
    const field = element("input", { value: name, maxLength: 64, spellcheck: false });
    field.setAttribute("aria-label", `Name of ${WHAT[kind]} ${name}`);
    field.addEventListener("focus", () => {
      chosen = { kind, name };
      showHandles();
      showShapes();
    });
    field.addEventListener("change", () => rename(kind, name, field.value));
    field.addEventListener("keydown", (event) => event.key === "Enter" && field.blur());
    const anchor = element("select", {}, ...Object.entries(ANCHORS).filter(([value]) => kind === "zones" || value === "foot" || value === "centre").map(([value, text]) => element("option", { value, textContent: text })));
    anchor.value = known[kind][name].anchor;
    anchor.setAttribute("aria-label", `What counts for ${name}`);
    anchor.addEventListener("change", () => {
      const places = copy();
      places[kind][name].anchor = anchor.value;
      send(places, `${name} changed`);
    });
    const gone = element("button", { type: "button", className: "remove", textContent: "×" });
    gone.setAttribute("aria-label", `Remove ${WHAT[kind]} ${name}`);
    gone.addEventListener("click", () => remove(kind, name));
    const made = element("li", { className: "place" }, element("span", { className: `mark-${kind}` }), field, anchor, gone, element("p", { className: "muted inside" }));
    made.dataset.name = name;
    made.dataset.kind = kind;
    return made;
  }

  function showList() {
    const entries = ["zones", "lines"].flatMap((kind) => Object.keys(known[kind]).map((name) => [kind, name]));
    const list = $("place-list");
    const key = JSON.stringify(entries);
    if (list.dataset.shown !== key) {
      list.dataset.shown = key;
      list.replaceChildren(...entries.map(([kind, name]) => item(kind, name)));
    }
    for (const made of list.children) {
      const { name, kind } = made.dataset;
      made.classList.toggle("chosen", chosen?.name === name);
      const select = made.querySelector("select");
      if (document.activeElement !== select) select.value = known[kind][name]?.anchor ?? "foot";
      const inside = watch?.inside?.[name];
      const counts = Object.entries(inside?.counts ?? {}).map(([label, count]) => `${count} ${label}`);
      const covered = Object.entries(inside?.coverage ?? {}).filter(([, share]) => share >= 1).map(([label, share]) => `${label} ${share.toFixed(0)} %`);
      made.querySelector(".inside").textContent = kind === "lines" ? "" : [counts.join(", ") || "empty", covered.join(", ")].filter(Boolean).join(" · covered: ");
    }
    $("rule-list").replaceChildren(...(watch?.rules ?? []).map((rule) => {
      const made = element("li", { textContent: rule.name, title: rule.text });
      made.dataset.active = String(rule.active);
      return made;
    }));
    $("event-list").replaceChildren(...(watch?.events ?? []).slice(0, 6).map((event) => {
      const time = element("time", { dateTime: event.time, textContent: new Date(event.time).toLocaleTimeString() });
      const who = event.region == null ? event.label : `${event.label} ${event.region}`;
      const where = event.place === "frame" ? "" : ` ${event.place}`;
      return element("li", {}, time, ` ${who} ${event.kind}${where}${event.direction ? ` to ${event.direction}` : ""}`);
    }));
  }

  // -- shapes --------------------------------------------------------------------------------------------------------

  const text = (points) => points.map(([x, y]) => `${x},${y}`).join(" ");

  function showShapes() {
    const shapes = [];
    const labels = [];
    for (const kind of ["zones", "lines"]) {
      for (const [name, { points }] of Object.entries(current()[kind])) {
        const made = shape(kind === "zones" ? "polygon" : "polyline", { points: text(points), class: `shape ${kind}` });
        if (chosen?.name === name) made.classList.add("chosen");
        shapes.push(made);
        const label = element("span", { className: "place-name", textContent: kind === "lines" ? `${name} →` : name });
        label.style.left = `${points[0][0] * 100}%`;
        label.style.top = `${points[0][1] * 100}%`;
        labels.push(label);
      }
    }
    if (drawing) {
      const points = hover ? [...drawing.points, hover] : drawing.points;
      shapes.push(shape("polyline", { points: text(points), class: "shape drawn" }));
      for (const [x, y] of drawing.points) {
        const dot = element("span", { className: "dot" });
        dot.style.left = `${x * 100}%`;
        dot.style.top = `${y * 100}%`;
        labels.push(dot);
      }
    }
    layer.replaceChildren(...shapes);
    $("place-names").replaceChildren(...labels);
  }

  function showHandles() {
    const points = chosen ? current()[chosen.kind][chosen.name]?.points : null;
    const key = points ? `${chosen.name} ${points.length}` : "";
    if (handles.dataset.shown !== key) {
      handles.dataset.shown = key;
      handles.replaceChildren(...(points ?? []).map(handle));
    } else if (!dragged) {
      points?.forEach(([x, y], index) => Object.assign(handles.children[index].style, { left: `${x * 100}%`, top: `${y * 100}%` }));
    }
  }

  function show() {
    document.body.classList.toggle("drawing", Boolean(drawing));
    $("draw-hint").hidden = !drawing;
    if (drawing) {
      const left = LEAST[drawing.kind] - drawing.points.length;
      $("draw-text").textContent = left > 0 ? `${left} more ${left === 1 ? "point" : "points"}` : "Click the first point, or Done";
      $("draw-done").disabled = left > 0;
    }
    showList();
    showShapes();
    showHandles();
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chosen && !drawing) {
      chosen = null;
      show();
    }
  });

  return {
    // The latest of the server; null where the run has no zones.
    told(latest) {
      watch = latest;
      $("zones-part").hidden = !latest;
      if (!latest) return;
      if (!sending && !dragged) known = { zones: latest.zones, lines: latest.lines };
      $("zones-file").textContent = latest.file ? `Saved to ${latest.file}` : "Not saved; start with --zones zones.toml to keep them";
      show();
    },
    drawing: () => Boolean(drawing),
    drawZone: () => watch && begin("zones"),
    drawLine: () => watch && begin("lines"),
  };
}
