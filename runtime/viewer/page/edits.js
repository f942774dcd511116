// Changes to the list of classes, made faster than they can be in force.
//
// What waits for the server is what was done to the list, not the list that came of it. So quick changes add up, a list
// that changed elsewhere meanwhile stays changed, and a change that is refused takes no other with it.

import { post } from "./live.js";

const EMPTY = "one class must stay; add another one first";

const namesOf = (entry) => entry.split("|").map((name) => name.trim().replace(/\s+/g, " ")).filter(Boolean);

// What the entry "bike|bicycle" is shown as.
export const labelOf = (entry) => namesOf(entry)[0] ?? "";

// A change has `apply(entries)`, which answers with the entries it makes of them.
// Calls `changed()` when `wanted()` may differ, `done(labels)` with what is in force, `refused(change, error)`.
export function editor({ changed, done, refused }) {
  let known = { version: -1, entries: [] }; // the latest list that the server had in force
  let waiting = []; // changes without an answer, oldest first
  let single = 0; // of those, how many go one by one, since together they were refused
  let busy = false;
  let settled = () => {};

  const after = (changes) => changes.reduce((entries, change) => change.apply(entries), known.entries);
  const quiet = () => new Promise((resolve) => {
    settled = resolve;
    setTimeout(resolve, 1000);
  });

  async function send(entries) {
    if (!entries.length) throw Object.assign(new Error(EMPTY), { status: 400 });
    return post("/classes", { classes: entries, version: known.version });
  }

  // One request at a time: requests that overtake each other would leave the wrong list.
  async function work() {
    while (waiting.length) {
      const batch = waiting.slice(0, single ? 1 : undefined);
      const entries = after(batch);
      const from = known.version;
      let problem = null;
      try {
        const answer = await send(entries);
        if (answer.version > known.version) known = { version: answer.version, entries };
        done(answer.classes);
      } catch (error) {
        if (error.status === 409) { // another list came in between, or is about to: that one is to be changed
          if (known.version === from) await quiet();
          continue;
        }
        if (error.status === 400 && batch.length > 1) {
          single = batch.length;
          continue;
        }
        problem = error;
      }
      waiting = waiting.slice(batch.length);
      single = Math.max(0, single - 1);
      if (problem) for (const change of batch) refused(change, problem);
      changed();
    }
  }

  return {
    // The classes as they will be once the server has taken on what was done here, each { label, names }; as there, those
    // that differ in case only are one.
    wanted() {
      const found = new Map();
      for (const entry of after(waiting)) {
        const label = labelOf(entry);
        if (label && !found.has(label.toLowerCase())) found.set(label.toLowerCase(), { label, names: namesOf(entry) });
      }
      return [...found.values()];
    },
    make(change) {
      waiting = [...waiting, change];
      changed();
      if (busy) return;
      busy = true;
      work().finally(() => (busy = false));
    },
    told(news) {
      if (news.version >= known.version) {
        known = { version: news.version, entries: news.classes.map((entry) => entry.names.join("|")) };
      }
      if (!news.pending) settled();
    },
    // The server may be another one from now on, which counts anew.
    reconnected() {
      known.version = -1;
    },
  };
}
