import { editor, labelOf } from "./edits.js";
import { examples } from "./examples.js";
import { connect, post, sparkline, themed, throttled } from "./live.js";
import { zones } from "./zones.js";

const $ = (id) => document.getElementById(id);
const percent = (share) => (share < 0.001 ? "<0.1 %" : `${(share * 100).toFixed(share >= 0.1 ? 0 : 1)} %`);
const picture = $("picture");
const pen = picture.getContext("2d");

let news = null; // the latest state from the server
let said = null; // the error in that state
let shares = []; // of the classes, in the latest frame
let last = null; // header of the latest frame
let cross = { x: 0.5, y: 0.5 }; // where the keyboard points, in shares of the picture
const chips = new Map(); // label -> its elements

// The token in the address is now a cookie; a copied address or a screenshot must not contain it.
if (location.search) history.replaceState(null, "", location.pathname);

function say(text) {
  $("announce").textContent = text;
}

function fail(error) {
  $("problem").textContent = error.message;
}

function pill(state, text) {
  $("pill").dataset.state = state;
  $("pill").textContent = text;
}

function banner(text) {
  $("banner").hidden = !text;
  if ($("banner").textContent !== (text || "")) $("banner").textContent = text || "";
}

// -- classes ---------------------------------------------------------------------------------------------------------

let hiding = null; // labels hidden here, until the server confirms it
let refusals = []; // refused changes since the last change made here

const setSettings = throttled("/settings", 60, {
  failed: fail,
  answered: (settings) => (news.settings = settings),
  settled() {
    hiding = null;
    showSettings();
    showClasses();
  },
});

const edits = editor({
  changed: showClasses,
  done: (labels) => say(`Classes: ${labels.join(", ")}`),
  refused(change, error) {
    refusals.push(`${change.failed}: ${error.message}`);
    fail(new Error(refusals.join("\n")));
    if (change.typed && !$("name").value) $("name").value = change.typed;
  },
});

function edit(change) {
  refusals = [];
  $("problem").textContent = "";
  edits.make(change);
}

const quoted = (text) => `“${text.length > 40 ? `${text.slice(0, 40)}…` : text}”`;

function add(event) {
  event.preventDefault();
  const names = $("name").value.split(",").map((text) => text.trim()).filter(Boolean);
  if (!news || !names.length) return;
  $("name").value = "";
  const typed = names.join(", ");
  edit({ apply: (entries) => [...entries, ...names], failed: `${quoted(typed)} was not added`, typed });
}

function remove(label) {
  const labels = listed().map((entry) => entry.label);
  if (labels.length < 2) {
    fail(new Error("at least one class is needed; add another one first"));
    return;
  }
  if (chips.get(label).contains(document.activeElement)) {
    const place = labels.indexOf(label);
    chips.get(labels[place + 1] ?? labels[place - 1]).querySelector(".remove").focus();
  }
  edit({
    apply: (entries) => entries.filter((entry) => labelOf(entry) !== label),
    failed: `${quoted(label)} was not removed`,
  });
}

const hidden = () => hiding ?? new Set(news.settings.hidden);

function toggle(label) {
  hiding = new Set(listed().map((entry) => entry.label).filter((one) => hidden().has(one) !== (one === label)));
  showClasses();
  setSettings({ hidden: [...hiding] });
}

// The classes after all changes made here; those that the server does not have yet have no colour yet.
function listed() {
  const had = new Map(news.classes.map((entry) => [entry.label, entry]));
  return edits.wanted().map((entry) => had.get(entry.label) ?? { ...entry, colour: "#808080", coming: true });
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function chip(entry) {
  const colour = element("input", { type: "color", className: "colour" });
  colour.setAttribute("aria-label", `Colour of ${entry.label}`);
  colour.addEventListener("input", () => setSettings({ colours: { [entry.label]: colour.value } }));
  const share = element("span", { className: "share" });
  const name = element("button", { type: "button", className: "name" }, element("span", { textContent: entry.label }), element("span", { className: "mark", textContent: "?", hidden: true }), share);
  name.addEventListener("click", () => toggle(entry.label));
  const gone = element("button", { type: "button", className: "remove", textContent: "×" });
  gone.setAttribute("aria-label", `Remove ${entry.label}`);
  gone.addEventListener("click", () => remove(entry.label));
  return element("li", { className: "chip" }, colour, name, gone);
}

function showClasses() {
  const entries = listed();
  const labels = new Set(entries.map((entry) => entry.label));
  for (const [label, item] of chips) {
    if (!labels.has(label)) {
      item.remove();
      chips.delete(label);
    }
  }
  entries.forEach((entry, index) => {
    if (!chips.has(entry.label)) chips.set(entry.label, chip(entry));
    const item = chips.get(entry.label);
    const off = hidden().has(entry.label);
    const place = $("classes").children[index];
    if (place !== item) $("classes").insertBefore(item, place ?? null);
    const colour = item.querySelector(".colour");
    if (document.activeElement !== colour && !setSettings.busy()) colour.value = entry.colour;
    const name = item.querySelector(".name");
    name.setAttribute("aria-pressed", String(!off));
    const reading = entry.reading; // of a name that the model was not trained with
    name.title = `${reading ? `${reading.text}\n` : ""}${entry.names.join(", ")}: click to ${off ? "show" : "hide"}`;
    name.querySelector(".mark").hidden = !reading;
    name.querySelector(".mark").dataset.doubtful = String(Boolean(reading?.doubtful));
    item.classList.toggle("hidden", off);
    item.classList.toggle("coming", Boolean(entry.coming));
  });
  $("classes").setAttribute("aria-busy", String(news.pending));
}

function showShares() {
  if (!news || !last || last.version !== news.version) return;
  news.classes.forEach((entry, index) => {
    const item = chips.get(entry.label);
    if (!item) return;
    item.querySelector(".share").textContent = shares[index] > 0 ? percent(shares[index]) : "";
    item.classList.toggle("seen", shares[index] > 0);
  });
}

function showPresets() {
  const box = $("presets");
  if (box.dataset.shown === JSON.stringify(news.presets)) return;
  box.dataset.shown = JSON.stringify(news.presets);
  box.hidden = !news.presets.length;
  box.replaceChildren(...news.presets.map((list, index) => {
    const button = element("button", { type: "button", title: list }, element("kbd", { textContent: index + 1 }), list.split(",").map((name) => name.split("|")[0].trim()).join(", "));
    button.addEventListener("click", () => usePreset(index));
    return button;
  }));
}

function usePreset(index) {
  const preset = news?.presets[index];
  if (preset) edit({ apply: () => preset.split(","), failed: `preset ${index + 1} was not applied` });
}

// -- class at a point ----------------------------------------------------------------------------------------------------

let asking = 0;

async function inspect(x, y) {
  const number = (asking += 1);
  showCard(x, y, "…", "", []);
  try {
    const found = await post("/region", { x, y });
    if (number !== asking) return;
    const others = found.guesses.filter((guess) => guess.label !== found.label);
    const title = found.label ?? "None of your classes";
    showCard(x, y, title, found.label === null ? "Candidates:" : `${percent(found.share)} of the picture`, found.guesses);
    showBox(found.label === null ? null : found.box);
    say(`${title}. Also possible: ${others.map((guess) => `${guess.label ?? "something else"} ${percent(guess.score)}`).join(", ") || "nothing"}`);
  } catch (error) {
    if (number === asking) showCard(x, y, "Request failed", error.message, []);
  }
}

function showCard(x, y, title, note, guesses) {
  $("card-title").textContent = title;
  $("card-note").textContent = note;
  $("card-guesses").replaceChildren(...guesses.map((guess) => {
    const bar = element("meter", { min: 0, max: 1, value: guess.score });
    bar.setAttribute("aria-hidden", "true");
    return element("li", {}, element("span", { textContent: guess.label ?? "something else" }), element("span", { textContent: percent(guess.score) }), bar);
  }));
  const card = $("card");
  card.hidden = false;
  card.style.left = x < 0.55 ? `${x * 100 + 2}%` : "auto";
  card.style.right = x < 0.55 ? "auto" : `${(1 - x) * 100 + 2}%`;
  card.style.top = y < 0.5 ? `${y * 100}%` : "auto";
  card.style.bottom = y < 0.5 ? "auto" : `${(1 - y) * 100}%`;
}

function showBox(box) {
  $("box").hidden = !box;
  if (!box) return;
  const [x0, y0, x1, y1] = box;
  Object.assign($("box").style, { left: `${x0 * 100}%`, top: `${y0 * 100}%`, width: `${(x1 - x0) * 100}%`, height: `${(y1 - y0) * 100}%` });
}

function closeCard() {
  asking += 1;
  $("card").hidden = $("box").hidden = $("cross").hidden = true;
}

function moveCross(dx, dy) {
  cross = { x: Math.min(0.999, Math.max(0, cross.x + dx)), y: Math.min(0.999, Math.max(0, cross.y + dy)) };
  Object.assign($("cross").style, { left: `${cross.x * 100}%`, top: `${cross.y * 100}%` });
  $("cross").hidden = false;
}

const places = zones({ say, fail, cross: () => cross, moveCross });

picture.addEventListener("click", (event) => {
  const box = picture.getBoundingClientRect();
  cross = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  moveCross(0, 0);
  inspect(cross.x, cross.y);
});
picture.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 0.1 : 0.02;
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (moves[event.key]) moveCross(...moves[event.key]);
  else if (event.key === "Enter") {
    moveCross(0, 0);
    inspect(cross.x, cross.y);
  } else return;
  event.preventDefault();
});
$("card-close").addEventListener("click", () => {
  closeCard();
  picture.focus();
});

// -- settings, recording, and the rest -------------------------------------------------------------------------------

for (const id of ["threshold", "opacity"]) {
  $(id).addEventListener("input", () => {
    $(`${id}-text`).textContent = Number($(id).value).toFixed(2);
    setSettings({ [id]: Number($(id).value) });
  });
}
for (const id of ["outlines", "names", "legend"]) {
  $(id).addEventListener("change", () => setSettings({ [id]: $(id).checked }));
}

for (const choice of document.querySelectorAll("#sensitivity input")) {
  choice.addEventListener("change", () => setSettings({ sensitivity: choice.value }));
}

function showSettings() {
  if (setSettings.busy()) return; // a change made here is newer than the state from the server
  for (const choice of document.querySelectorAll("#sensitivity input")) choice.checked = choice.value === news.settings.sensitivity;
  for (const id of ["threshold", "opacity"]) {
    if (document.activeElement === $(id) && $(id).matches(":active")) continue; // it is being dragged
    $(id).value = news.settings[id];
    $(`${id}-text`).textContent = news.settings[id].toFixed(2);
  }
  for (const id of ["outlines", "names", "legend"]) $(id).checked = news.settings[id];
}

function stepThreshold(step) {
  const value = Math.min(1, Math.max(0, Number($("threshold").value) + step));
  $("threshold").value = value;
  $("threshold-text").textContent = value.toFixed(2);
  setSettings({ threshold: value });
}

async function record() {
  const on = news?.recording == null;
  try {
    const answer = await post("/record", { on });
    say(on ? "Recording" : answer.recorded ? `Recorded ${answer.recorded}` : "Nothing was recorded");
  } catch (error) {
    fail(error);
  }
}
$("record").addEventListener("click", record);

let begun = null; // when the recording began, by this page's clock
function showRecording() {
  const on = news.recording != null;
  begun = on ? Date.now() - news.recording * 1000 : null;
  $("record").setAttribute("aria-pressed", String(on));
  showSeconds();
  $("recordings-part").hidden = !news.recordings.length;
  $("recordings").replaceChildren(...news.recordings.map((name) => element("li", {}, element("a", { href: `recordings/${name}`, textContent: name, download: name }))));
  if (news.recording_error) fail(new Error(news.recording_error));
}
function showSeconds() {
  const seconds = begun === null ? 0 : Math.floor((Date.now() - begun) / 1000);
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  $("record-text").textContent = begun === null ? "Record" : `Stop ${clock}`;
}
setInterval(showSeconds, 500);

$("full").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("frame").requestFullscreen?.();
});
$("add").addEventListener("submit", add);

themed($("theme"));
$("back").hidden = !location.pathname.startsWith("/cameras/"); // one of several

const shown = examples({ say, fail });
const keys = {
  "/": () => $("name").focus(),
  "+": () => stepThreshold(0.05),
  "=": () => stepThreshold(0.05),
  "-": () => stepThreshold(-0.05),
  s: () => $("snapshot").click(),
  r: record,
  f: () => $("full").click(),
  p: () => picture.focus(),
  z: places.drawZone,
  l: places.drawLine,
  e: () => !$("show").hidden && shown.open(),
  "?": () => $("help").showModal(),
  Escape: closeCard,
};
$("help-open").addEventListener("click", keys["?"]);
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=range], [type=checkbox]), textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || shown.isOpen()) return;
  if (typing && event.key === "Escape") event.target.blur();
  if (typing) return;
  if (/^[1-9]$/.test(event.key)) usePreset(Number(event.key) - 1);
  else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
});

// -- the stream ------------------------------------------------------------------------------------------------------

const lines = { fps: sparkline($("fps-line"), "--line-1"), model: sparkline($("model-line"), "--line-2"), age: sparkline($("age-line"), "--line-3") };
let told = 0;

function showSpeed(header) {
  const now = performance.now();
  if (now - told < 250) return;
  told = now;
  const units = { fps: (value) => value.toFixed(1), model: (value) => `${value.toFixed(0)} ms`, age: (value) => `${value.toFixed(0)} ms` };
  for (const [name, unit] of Object.entries(units)) {
    $(name).parentElement.hidden = header[name] == null;
    if (header[name] == null) continue;
    $(name).textContent = unit(header[name]);
    lines[name](header[name]);
  }
  $("dropped").textContent = header.dropped ? `${header.dropped} stale frames dropped` : "";
  showShares();
}

connect({
  frame(header, bitmap) {
    if (picture.width !== bitmap.width || picture.height !== bitmap.height) {
      picture.width = bitmap.width;
      picture.height = bitmap.height;
      document.querySelector(".stage").style.setProperty("--aspect", bitmap.width / bitmap.height);
    }
    pen.drawImage(bitmap, 0, 0);
    $("empty").hidden = true;
    last = header;
    shares = header.shares;
    document.body.dataset.version = header.version;
    showSpeed(header);
  },
  news(told) {
    news = told;
    edits.told(news);
    document.title = `${news.title} · ovs-edge`;
    $("title").textContent = `${news.title} · ${news.model}`;
    banner(news.lost);
    pill(news.lost ? "lost" : "live", news.lost ? "No picture" : "Live");
    shown.told(news);
    showClasses();
    showShares();
    showPresets();
    showSettings();
    showRecording();
    places.told(news.watch);
    if (news.error && news.error !== said && !$("problem").textContent.includes(news.error)) fail(new Error(news.error));
    if (!news.error && $("problem").textContent === said) $("problem").textContent = "";
    said = news.error;
  },
  link(state) {
    if (state === "open") {
      edits.reconnected();
      return;
    }
    pill(state, state === "ended" ? "Ended" : "Not connected");
    banner(state === "ended" ? "The run has ended." : "Connection lost; reconnecting.");
  },
});
