// The grid of several cameras: a small live picture of each; a click opens the camera's own page.

import { connect, themed } from "./live.js";

const PAUSE = 1000; // milliseconds between two looks at the list of cameras
const $ = (id) => document.getElementById(id);
const tiles = new Map(); // name -> its elements and what ends its connection

if (location.search) history.replaceState(null, "", location.pathname); // the token is now a cookie
themed($("theme"));

function made(tag, className, textContent = "") {
  return Object.assign(document.createElement(tag), { className, textContent });
}

function tile(name) {
  const path = `cameras/${encodeURIComponent(name)}/`;
  const item = made("li", "camera");
  const link = Object.assign(made("a", "open"), { href: path });
  const picture = Object.assign(document.createElement("canvas"), { width: 480, height: 270 });
  const banner = Object.assign(made("p", "banner"), { hidden: true });
  const figures = made("span", "muted");
  const state = made("span", "pill");
  const foot = made("p", "foot");
  foot.append(made("strong", "", name), figures, state);
  link.append(picture, banner, foot);
  item.append(link);
  const pen = picture.getContext("2d");
  const end = connect({
    frame(header, bitmap) {
      if (picture.width !== bitmap.width || picture.height !== bitmap.height) {
        picture.width = bitmap.width;
        picture.height = bitmap.height;
      }
      pen.drawImage(bitmap, 0, 0);
      item.dataset.frames = header.number;
    },
    news() {},
    link() {},
  }, `${path}live?tile=1`);
  return { item, banner, figures, state, end };
}

function show(entry) {
  const { banner, figures, state } = tiles.get(entry.name);
  const rate = entry.fps == null ? "" : `${entry.fps.toFixed(1)} FPS`;
  const age = entry.age_ms == null ? "" : `frame age ${entry.age_ms.toFixed(0)} ms`;
  figures.textContent = [rate, age].filter(Boolean).join(" · ");
  state.dataset.state = entry.state === "playing" ? "live" : entry.state;
  state.textContent = { playing: "Live", opening: "Opening", lost: "No picture" }[entry.state] ?? "Failed";
  const reason = (entry.reason ?? "").split(". ")[0]; // what to do about it is on the camera's page
  banner.hidden = !reason;
  if (banner.textContent !== reason) banner.textContent = reason;
}

async function look() {
  try {
    const reply = await fetch("cameras");
    if (!reply.ok) throw new Error(reply.status);
    const cameras = await reply.json();
    const names = new Set(cameras.map((entry) => entry.name));
    for (const [name, { item, end }] of tiles) {
      if (names.has(name)) continue;
      end();
      item.remove();
      tiles.delete(name);
    }
    cameras.forEach((entry, index) => {
      if (!tiles.has(entry.name)) tiles.set(entry.name, tile(entry.name));
      const { item } = tiles.get(entry.name);
      if ($("cameras").children[index] !== item) $("cameras").insertBefore(item, $("cameras").children[index] ?? null);
      show(entry);
    });
    const live = cameras.filter((entry) => entry.state === "playing").length;
    $("pill").dataset.state = live === cameras.length ? "live" : "lost";
    $("pill").textContent = `${live} of ${cameras.length} live`;
  } catch {
    $("pill").dataset.state = "lost";
    $("pill").textContent = "Not connected";
  }
  setTimeout(look, PAUSE);
}

look();
