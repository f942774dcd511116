"use strict";

// The form: a picture and classes to POST /segment, the index PNG that comes back drawn over the picture.
// Below it the interface, as openapi.json describes it. Everything is put into the page as text.

const byId = (name) => document.getElementById(name);
const NONE = 255;

function add(parent, tag, text) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

// Colours that differ as much as they can: hues by the golden angle.
function colour(index) {
  const hue = (index * 137.508) % 360;
  const channel = (n) => {
    const k = (n + hue / 60) % 6;
    return Math.round(255 * (0.95 - 0.75 * Math.max(0, Math.min(k, 4 - k, 1))));
  };
  return [channel(5), channel(3), channel(1)];
}

async function segment(event) {
  event.preventDefault();
  const told = byId("told");
  const file = byId("image").files[0];
  const form = new FormData();
  form.append("image", file);
  form.append("classes", byId("classes").value);
  told.textContent = "…";
  const start = performance.now();
  try {
    const response = await fetch("segment", { method: "POST", body: form });
    if (!response.ok) {
      told.textContent = (await response.json()).error;
      return;
    }
    const classes = JSON.parse(response.headers.get("OVS-Classes") || "[]");
    const labels = await createImageBitmap(await response.blob(), { colorSpaceConversion: "none" });
    told.textContent = `${Math.round(performance.now() - start)} ms`;
    draw(await createImageBitmap(file), labels, classes);
  } catch (error) {
    told.textContent = String(error);
  }
}

function draw(picture, labels, classes) {
  const canvas = byId("canvas");
  canvas.width = labels.width;
  canvas.height = labels.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(labels, 0, 0);
  const index = context.getImageData(0, 0, canvas.width, canvas.height).data;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const shown = context.getImageData(0, 0, canvas.width, canvas.height);
  const found = new Set();
  for (let at = 0; at < index.length; at += 4) {
    if (index[at] === NONE) continue;
    found.add(index[at]);
    const mixed = colour(index[at]);
    for (let c = 0; c < 3; c += 1) shown.data[at + c] = (shown.data[at + c] + mixed[c]) / 2;
  }
  context.putImageData(shown, 0, 0);
  const legend = byId("legend");
  legend.replaceChildren();
  for (const number of [...found].sort((a, b) => a - b)) {
    const entry = add(legend, "li");
    const patch = add(entry, "canvas");
    patch.width = patch.height = 14;
    const brush = patch.getContext("2d");
    brush.fillStyle = `rgb(${colour(number).join(",")})`;
    brush.fillRect(0, 0, 14, 14);
    entry.append(classes[number] || String(number));
  }
}

function describe(path, method, operation, parent) {
  const title = add(parent, "h3");
  add(title, "code", `${method.toUpperCase()} ${path}`);
  add(parent, "p", [operation.summary, operation.description].filter(Boolean).join(". "));
  if (operation.parameters) {
    const table = add(parent, "table");
    for (const parameter of operation.parameters) {
      const row = add(table, "tr");
      add(add(row, "td"), "code", parameter.name);
      add(row, "td", parameter.description);
    }
  }
  if (operation.requestBody) {
    add(parent, "p", `Body: ${Object.keys(operation.requestBody.content).join(", ")}`);
  }
  const table = add(parent, "table");
  for (const [status, response] of Object.entries(operation.responses)) {
    const row = add(table, "tr");
    add(row, "td", status);
    add(row, "td", Object.keys(response.content || {}).join(", "));
    add(row, "td", response.description);
  }
}

async function main() {
  byId("form").addEventListener("submit", segment);
  const document_ = await (await fetch("openapi.json")).json();
  byId("about").textContent = document_.info.description;
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, operation] of Object.entries(methods)) describe(path, method, operation, byId("paths"));
  }
}

main();
